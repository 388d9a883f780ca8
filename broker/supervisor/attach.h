// SERVICE.sock: where workers attach that the supervisor did not start (PROTOCOL.md section 1.1).
// Runs in the supervisor, which reads nothing from them.

#ifndef TLSBROKER_BROKER_SUPERVISOR_ATTACH_H_
#define TLSBROKER_BROKER_SUPERVISOR_ATTACH_H_

#include <asio/any_io_executor.hpp>
#include <asio/awaitable.hpp>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "broker/supervisor/config.h"
#include "broker/supervisor/event_loop.h"
#include "broker/supervisor/queue.h"
#include "broker/supervisor/unix_listener.h"
#include "protocol/attach.h"

namespace tlsbroker::supervisor {

// Who may attach. Root always may, and without root the user who started the broker.
struct AllowList {
  std::vector<uid_t> users;
  std::vector<gid_t> groups;

  // Names that exist: LookUpAccounts() has looked.
  static AllowList Of(const ServiceConfig& service);
  bool Allows(const Peer& peer) const;
};

class AttachPoint : public std::enable_shared_from_this<AttachPoint> {
 public:
  // Per service. Each costs the supervisor a descriptor.
  static constexpr size_t kMaxAttached = 1024;

  static absl::StatusOr<std::shared_ptr<AttachPoint>> Open(const asio::any_io_executor& executor,
                                                           const std::string& runtime_dir,
                                                           const std::string& service,
                                                           AllowList allowed,
                                                           std::shared_ptr<Queue> queue);

  // Starts to accept.
  void Start();
  // For those who attach from now on.
  void Change(AllowList allowed, std::shared_ptr<Queue> queue);
  // No more, and the name goes. Those who are attached keep their queue.
  void Close();

  // By a number that means nothing.
  const std::map<uint64_t, Peer>& attached() const { return attached_; }

 private:
  AttachPoint(const asio::any_io_executor& executor, UnixListener listener, std::string service,
              AllowList allowed, std::shared_ptr<Queue> queue);

  asio::awaitable<void> Accept();
  void Welcome(UniqueFd socket);
  attach::Answer AnswerTo(const Peer& peer) const;
  void LogRefusal(const Peer& peer, attach::Answer answer);
  asio::awaitable<void> Keep(UniqueFd socket, uint64_t number);

  asio::any_io_executor executor_;
  std::optional<UnixListener> listener_;  // until Close()
  Watch watch_;
  const std::string service_;
  AllowList allowed_;
  std::shared_ptr<Queue> queue_;
  std::map<uint64_t, Peer> attached_;
  uint64_t next_ = 0;
  uint64_t refused_ = 0;
};

}  // namespace tlsbroker::supervisor

#endif  // TLSBROKER_BROKER_SUPERVISOR_ATTACH_H_
