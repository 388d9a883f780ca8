// SPDX-License-Identifier: Apache-2.0
// All of a handshaker: made from the supervisor's snapshot, then confined, then run.

#ifndef TLSBROKER_BROKER_HANDSHAKER_SERVER_H_
#define TLSBROKER_BROKER_HANDSHAKER_SERVER_H_

#include <asio/io_context.hpp>
#include <asio/steady_timer.hpp>
#include <map>
#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "broker/handshaker/acceptor.h"
#include "broker/handshaker/control.h"
#include "broker/handshaker/keyholder_client.h"
#include "broker/handshaker/keyholder_provider.h"
#include "broker/handshaker/service.h"
#include "protocol/facts.h"

namespace tlsbroker {

// Lets its owner destroy the coroutines that are suspended in it before the loop itself is
// destroyed: they use what the server owns, and what the server owns uses the loop.
class EventLoop : public asio::io_context {
 public:
  using asio::io_context::io_context;
  using asio::io_context::shutdown;
};

class Server {
 public:
  // Probes the kernel, builds the TLS contexts and confines the process. Nothing is accepted yet.
  static absl::StatusOr<std::unique_ptr<Server>> Create(Snapshot snapshot);
  ~Server() {
    if (io_) io_->shutdown();
  }
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;

  // Says Ready on the control socket and serves until drained, or until the supervisor is gone.
  void Run(UniqueFd control);

 private:
  Server() = default;
  // Event loop and TLS contexts.
  absl::Status Prepare(Snapshot& snapshot, KtlsCapabilities capabilities, SecretBytes sealing);
  absl::Status LoadCertificates(const Snapshot& snapshot);
  absl::Status LoadService(Snapshot& snapshot);
  absl::Status LoadUpstreams(const Snapshot& snapshot);
  absl::Status AllowRequests(const supervision::Service& source);
  void LoadListeners(Snapshot& snapshot);
  void SetLimits(const supervision::Limits& limits);
  void ReportFacts() const;

  asio::awaitable<void> FollowSupervisor();
  asio::awaitable<void> WatchKeyholder();
  void LoseKeyholder(absl::string_view why);
  void SayThatItIsLost();
  asio::awaitable<void> Beat();
  void SayBeat();
  void SayRefused();
  void Turn();
  asio::awaitable<void> Drain(std::chrono::milliseconds limit);
  void StartAccepting();
  void StopAccepting();

  OsslLibCtxPtr library_;
  OsslProviderPtr default_provider_;
  std::unique_ptr<KeyholderClient> keyholder_;
  std::unique_ptr<KeyholderProvider> provider_;
  TicketSealer ticket_keys_;
  std::unique_ptr<EventLoop> io_;
  std::unique_ptr<Shared> shared_;
  std::map<uint16_t, std::shared_ptr<const LoadedCertificate>> certificates_;
  std::map<uint16_t, X509StorePtr> trust_;
  std::map<uint16_t, std::pair<std::string, Upstream>> upstreams_;  // with their names
  std::unique_ptr<Service> service_;
  std::vector<supervision::Facts::Expiry> expiries_;
  std::vector<std::unique_ptr<Acceptor>> acceptors_;
  std::chrono::steady_clock::time_point beat_due_;  // the next heartbeat
  std::chrono::nanoseconds beat_used_{};            // processor time at the last heartbeat
  bool accepting_ = false;
  bool lost_keyholder_ = false;
  bool loss_is_said_ = false;
  supervision::Counters said_;  // the counters of refused connections that the log has
  std::chrono::steady_clock::time_point next_refused_;
  std::unique_ptr<AsyncFd> control_;
  supervision::Conversation conversation_{supervision::kToHandshaker};
};

}  // namespace tlsbroker

#endif  // TLSBROKER_BROKER_HANDSHAKER_SERVER_H_
