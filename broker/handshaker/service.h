// SPDX-License-Identifier: Apache-2.0
// The service as its handshaker sees it, and what all connections of the process share. Runs in the
// handshaker.

#ifndef TLSBROKER_BROKER_HANDSHAKER_SERVICE_H_
#define TLSBROKER_BROKER_HANDSHAKER_SERVICE_H_

#include <asio/io_context.hpp>
#include <chrono>
#include <map>
#include <memory>
#include <set>
#include <string>

#include "broker/handshaker/admission.h"
#include "broker/handshaker/client_context.h"
#include "broker/handshaker/connector.h"
#include "broker/handshaker/ktls_capabilities.h"
#include "broker/handshaker/queue_sender.h"
#include "broker/handshaker/tls_context.h"
#include "broker/support/openssl_ptr.h"
#include "broker/support/rate_limit.h"
#include "broker/support/secret_bytes.h"
#include "protocol/counters.h"
#include "protocol/modes.h"

namespace tlsbroker {

// Kernel TLS as this process has seen it: what the probe at the start found, and what has failed on
// a live connection since then and is no longer tried.
class KtlsState {
 public:
  explicit KtlsState(KtlsCapabilities capabilities) : capabilities_(std::move(capabilities)) {}

  const KtlsCapabilities& capabilities() const { return capabilities_; }
  bool Usable(TlsVersion version, Suite suite) const {
    return capabilities_.Supports(version, suite) && !failed_.contains({version, suite});
  }
  std::string Reason(TlsVersion version, Suite suite) const {
    if (failed_.contains({version, suite})) return "install-failed-before";
    return capabilities_.Reason(version, suite);
  }
  bool CanRekey() const {
    return capabilities_.rekey(Direction::kTx).ok && capabilities_.rekey(Direction::kRx).ok;
  }
  void MarkFailed(TlsVersion version, Suite suite) { failed_.insert({version, suite}); }

 private:
  KtlsCapabilities capabilities_;
  std::set<std::pair<TlsVersion, Suite>> failed_;
};

// Lives as long as the process.
struct Shared {
  asio::io_context& io;
  OSSL_LIB_CTX* library;
  std::chrono::milliseconds handshake_timeout;
  Admission handshakes;
  Admission relayed;
  KtlsState ktls;
  SecretBytes sealing;  // seals rekey tokens
  UniqueFd rekey_lock;  // shared by all handshakers of the service
  supervision::Counters counters;
  uint64_t connections_active = 0;  // handshakes, waiting hand-offs and relays
  Connector connector;              // to upstreams
  RateLimit failures_said{10, 50};  // lines about handshakes that failed
  uint64_t failures_unsaid = 0;     // since the last of them
};

// Counts a connection for as long as the object or coroutine that serves it lives, however that
// ends.
class ActiveConnection {
 public:
  explicit ActiveConnection(Shared& shared) : shared_(shared) { ++shared_.connections_active; }
  ActiveConnection(const ActiveConnection&) = delete;
  ActiveConnection& operator=(const ActiveConnection&) = delete;
  ~ActiveConnection() { --shared_.connections_active; }

 private:
  Shared& shared_;
};

// A server that the configuration names, for the services whose workers may have it dialled.
struct Upstream {
  uint16_t id = 0;
  ExpectedServer server;
};

struct Service {
  std::string name;
  supervision::ServiceTerms terms;
  std::unique_ptr<TlsContext> tls;
  QueueSender queue;
  AsyncFd requests;          // of its workers
  std::string last_reason;   // why the last relayed connection was relayed
  std::string last_refusal;  // why the last one was not, where ktls is "require"

  // The requests that workers may make, besides those for new keys.
  X509_STORE* wrap_trust = nullptr;  // the Server's; null: workers may not wrap as a client
  // The certificates that they may use, by their names in the configuration.
  std::map<std::string, std::shared_ptr<const LoadedCertificate>> wrap_certificates;
  std::unique_ptr<ClientContext> client;  // null: no wrapping as a client, no dialling
  std::map<std::string, Upstream> upstreams;
  uint32_t opening = 0;  // handshakes for such requests that are under way
};

}  // namespace tlsbroker

#endif  // TLSBROKER_BROKER_HANDSHAKER_SERVICE_H_
