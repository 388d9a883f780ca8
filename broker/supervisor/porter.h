// SPDX-License-Identifier: Apache-2.0
// A name in the runtime directory, and the process that serves it: makes the name, starts the
// process, and does both again when that process ends or hangs, or when somebody has removed the
// name. Runs in the supervisor, which has no connection of a stranger's, not even one that waits in
// a listening socket: closing it may take for ever (socket_name.h), so that is left to the porter.

#ifndef TLSBROKER_BROKER_SUPERVISOR_PORTER_H_
#define TLSBROKER_BROKER_SUPERVISOR_PORTER_H_

#include <asio/any_io_executor.hpp>
#include <asio/awaitable.hpp>
#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "broker/supervisor/backoff.h"
#include "broker/supervisor/event_loop.h"
#include "broker/supervisor/role_process.h"
#include "broker/supervisor/socket_name.h"
#include "protocol/message.h"
#include "protocol/role_messages.h"

namespace tlsbroker::supervisor {

// How a porter is started; when this changes another process is started.
struct PorterStart {
  std::string program;
  supervision::Confinement confinement;
  std::shared_ptr<LogSources> log = nullptr;  // none: standard error
};

class Porter : public std::enable_shared_from_this<Porter> {
 public:
  // The time from the start to Ready.
  static constexpr std::chrono::milliseconds kReadyTimeout{10'000};
  // How often it is looked whether the name is still there.
  static constexpr std::chrono::milliseconds kNamePeriod{2'000};
  // How many processes there may be that cannot be ended, because somebody keeps them in the
  // kernel. Then no other one is started before one of them has ended.
  static constexpr ptrdiff_t kMaxLeftBehind = 8;

  // The purpose of the name.
  class Purpose {
   public:
    virtual ~Purpose() = default;
    // The message that a porter is told first, and again by Tell().
    virtual absl::StatusOr<supervision::Message> Duty() = 0;
    // Takes a message of the porter; false for one that it may not send.
    virtual bool Heard(supervision::Message message) = 0;
    // The previous process has ended, and with it what it had.
    virtual void Ended() = 0;
  };

  // `service` is empty for the broker's own. `changed` is called after every change of what the
  // functions below tell. Borrows `purpose` until Close().
  Porter(const asio::any_io_executor& executor, std::string service, PorterStart start,
         std::string path, int type, Access access, Purpose& purpose,
         std::function<void()> changed);

  // Makes the name and starts the process. After an error there is no name.
  absl::Status Open();
  // Gives the process its duty again, after that has changed.
  void Tell();
  bool SendNow(const supervision::Encoded& message);
  template <typename M>
  bool SendNow(const M& message) {
    return SendNow(supervision::EncodeOne(message));
  }
  void SetAccess(Access access) { name_.Change(std::move(access)); }
  void Restart(PorterStart start);  // if `start` is another one
  // For good: removes the name, and ends the process.
  void Close();

  // The process that was started by Open() or Restart() has begun to listen, or has ended.
  bool settled() const { return closed_ || settled_; }
  bool gone() const;  // after Close()
  // Includes those that are being replaced, and those that cannot be ended.
  const std::vector<std::shared_ptr<RoleProcess>>& processes() const { return processes_; }

  // To be called every RoleProcess::kLookPeriod.
  void Look(Clock::time_point now);
  // SIGKILL.
  void Kill();

 private:
  asio::awaitable<void> Run();
  asio::awaitable<void> Rest(Clock::duration time);
  bool TooManyLeftBehind() const;
  absl::Status StartProcess();
  absl::StatusOr<std::vector<supervision::Message>> FirstMessages();
  void LookAtName(Clock::time_point now);
  void LogFailure(const absl::Status& started) const;
  void Changed();

  asio::any_io_executor executor_;
  const std::string service_;
  PorterStart start_;
  SocketName name_;
  UniqueFd door_;     // has the name, until the next process takes it
  Purpose* purpose_;  // null after Close()
  const std::function<void()> changed_;
  Event wake_;
  Backoff backoff_;
  Clock::time_point started_;
  Clock::time_point next_look_at_name_;
  std::shared_ptr<RoleProcess> process_;
  std::vector<std::shared_ptr<RoleProcess>> processes_;
  uint32_t number_ = 0;  // of process_
  bool settled_ = false;
  bool restart_ = false;
  bool duty_changed_ = false;
  bool closed_ = false;
};

}  // namespace tlsbroker::supervisor

#endif  // TLSBROKER_BROKER_SUPERVISOR_PORTER_H_
