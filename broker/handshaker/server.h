// All of a handshaker: made from the supervisor's snapshot, then confined, then run.

#ifndef TLSBROKER_BROKER_HANDSHAKER_SERVER_H_
#define TLSBROKER_BROKER_HANDSHAKER_SERVER_H_

#include <asio/io_context.hpp>
#include <asio/steady_timer.hpp>
#include <map>
#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "broker/handshaker/acceptor.h"
#include "broker/handshaker/control.h"
#include "broker/handshaker/keyholder_client.h"
#include "broker/handshaker/keyholder_provider.h"
#include "broker/handshaker/service.h"

namespace tlsbroker {

// Destroys what coroutines are suspended in it before it goes itself: they use what the server
// owns, and what the server owns uses the loop.
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
  absl::Status LoadCertificates(const Snapshot& snapshot);
  absl::Status LoadServices(Snapshot& snapshot);
  absl::Status LoadUpstreams(const Snapshot& snapshot);
  absl::Status AllowRequests(const supervision::Service& source, Service& service);
  absl::Status LoadListeners(Snapshot& snapshot);
  void ReportFacts() const;

  asio::awaitable<void> FollowSupervisor();
  asio::awaitable<void> WatchKeyholder();
  asio::awaitable<void> ReportCounters();
  asio::awaitable<void> Drain(std::chrono::milliseconds limit);
  void StartAccepting();
  void StopAccepting();

  OsslLibCtxPtr library_;
  OsslProviderPtr default_provider_;
  std::unique_ptr<KeyholderClient> keyholder_;
  std::unique_ptr<KeyholderProvider> provider_;
  TicketKeyring ticket_keys_;
  std::unique_ptr<EventLoop> io_;
  std::unique_ptr<Shared> shared_;
  std::map<uint16_t, std::shared_ptr<const LoadedCertificate>> certificates_;
  std::map<uint16_t, X509StorePtr> trust_;
  std::map<uint16_t, std::pair<std::string, Upstream>> upstreams_;  // with their names
  std::map<uint16_t, std::unique_ptr<Service>> services_;
  std::vector<supervision::Facts::Expiry> expiries_;
  std::vector<std::unique_ptr<Acceptor>> acceptors_;
  bool accepting_ = false;
  std::unique_ptr<AsyncFd> control_;
};

}  // namespace tlsbroker

#endif  // TLSBROKER_BROKER_HANDSHAKER_SERVER_H_
