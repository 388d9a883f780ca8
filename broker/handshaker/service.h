// One service as a handshaker sees it, and what all connections of the process share. Runs in the
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
#include "broker/handshaker/queue.h"
#include "broker/handshaker/tls_context.h"
#include "broker/support/openssl_ptr.h"
#include "broker/support/secret_bytes.h"
#include "protocol/supervision.h"

namespace tlsbroker {

// Kernel TLS as this process has seen it: the probe at the start, and what failed on a live
// connection since, which is then no longer tried.
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
  uint32_t max_relayed;
  Admission admission;
  KtlsState ktls;
  SecretBytes sealing;  // of rekey tokens
  UniqueFd rekey_lock;  // shared by all handshakers
  supervision::Counters counters;
  uint64_t connections_active = 0;  // handshakes, waiting hand-offs and relays
  Connector connector;              // to upstreams
};

// Counts a connection for as long as who serves it lives, however that ends.
class ActiveConnection {
 public:
  explicit ActiveConnection(Shared& shared) : shared_(shared) { ++shared_.connections_active; }
  ActiveConnection(const ActiveConnection&) = delete;
  ActiveConnection& operator=(const ActiveConnection&) = delete;
  ~ActiveConnection() { --shared_.connections_active; }

 private:
  Shared& shared_;
};

// A server that the configuration names, for those services that may have it dialled.
struct Upstream {
  uint16_t id = 0;
  ExpectedServer server;
};

struct Service {
  std::string name;
  supervision::KtlsMode ktls;
  supervision::RekeyMode rekey;
  std::unique_ptr<TlsContext> tls;
  Queue queue;
  AsyncFd requests;  // of its workers
  supervision::ServiceCounters counters;
  bool counters_changed = false;  // since they were reported

  // What workers may ask for beside new keys.
  bool wrap_server = false;
  X509_STORE* wrap_trust = nullptr;  // null: not as a client
  // With these, by their names in the configuration.
  std::map<std::string, std::shared_ptr<const LoadedCertificate>> wrap_certificates;
  std::unique_ptr<ClientContext> client;  // null: neither that nor dialling
  std::map<std::string, Upstream> upstreams;
  uint32_t opening = 0;  // such handshakes under way

  void CountDirect() {
    ++counters.direct;
    counters_changed = true;
  }
  void CountRelay(const std::string& reason) {
    ++counters.relay;
    counters.last_reason = reason;
    counters_changed = true;
  }
};

}  // namespace tlsbroker

#endif  // TLSBROKER_BROKER_HANDSHAKER_SERVICE_H_
