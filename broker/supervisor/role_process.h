// SPDX-License-Identifier: Apache-2.0
// One process of the broker below the supervisor, from its start to its end: a keyholder, a
// handshaker, the logger, a porter. It gets its snapshot over a control socket that goes downwards
// only, and reports over a ring, so nothing that it does can hold the supervisor up. It may have
// been taken over: what it says is decoded strictly, and the first message that it may not send
// ends it. Runs in the supervisor.
//
// A process whose event loop turns says so every half second (supervision::Heartbeat). One that is
// silent is killed, and whoever owns it starts another one; one that the kernel cannot end (state
// D) is left behind.

#ifndef TLSBROKER_BROKER_SUPERVISOR_ROLE_PROCESS_H_
#define TLSBROKER_BROKER_SUPERVISOR_ROLE_PROCESS_H_

#include <asio/any_io_executor.hpp>
#include <asio/awaitable.hpp>
#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "broker/supervisor/child_process.h"
#include "broker/supervisor/control.h"
#include "broker/supervisor/event_loop.h"
#include "broker/supervisor/log_sources.h"
#include "broker/supervisor/pulse.h"
#include "broker/supervisor/snapshot.h"
#include "broker/supervisor/ticket_keys.h"
#include "protocol/conversation.h"
#include "protocol/message.h"
#include "protocol/ring.h"
#include "protocol/role_messages.h"
#include "protocol/unique_fd.h"

namespace tlsbroker::supervisor {

class RoleProcess : public std::enable_shared_from_this<RoleProcess> {
 public:
  // The time from the end of file on its control socket, or from the end of its drain, to SIGKILL.
  static constexpr std::chrono::milliseconds kEndTimeout{5'000};
  // The time from SIGKILL to being left behind.
  static constexpr std::chrono::milliseconds kReapTimeout{2'000};
  static constexpr std::chrono::milliseconds kLookPeriod = Pulse::kLookPeriod;
  // How many messages of one process, and rings of its bell, are read in a second; the next ones
  // wait. The most that there is reason for is a Connect for each of 1,000 requests of workers.
  static constexpr int kMaxReports = 4'000;

  struct Spec {
    std::string role;         // "keyholder", "handshaker[0]"
    std::string service;      // none for the logger
    uint32_t generation = 0;  // of the service; 0: of none
    std::string program;
    std::vector<std::string> environment;
    std::span<const supervision::Rule> says;  // protocol/conversation.h
  };

  // `heard` gets the messages of the process, except Heartbeat, Ready, and a Failed before Ready;
  // if it returns false the process is ended. So is a process that sends what it may not send, or
  // its last message. `changed` is called after every change of what the functions below tell.
  RoleProcess(const asio::any_io_executor& executor, Spec spec,
              std::function<bool(supervision::Message)> heard, std::function<void()> changed);

  // To be called once. Goes on in the event loop. The process writes its log into `log`, or to our
  // standard error if that is null. `ticket_keys`, for a handshaker, follow Settings, and are in no
  // message for longer than it takes to send it.
  void Start(Snapshot snapshot, std::unique_ptr<LogPipe> log,
             const TicketKeyRing* ticket_keys = nullptr);

  const Spec& spec() const { return spec_; }
  pid_t pid() const { return process_ ? process_->pid() : 0; }
  bool ready() const { return ready_; }
  // The process ended, hangs or could not be started, without having been told to end.
  bool lost() const { return lost_; }
  // No process is left, or one that cannot be ended.
  bool gone() const { return gone_ || left_behind_; }
  bool left_behind() const { return left_behind_ && !gone_; }
  bool told_to_end() const { return told_to_end_; }
  // Why the process could not start, if it said so.
  const std::optional<supervision::Failed>& failed() const { return failed_; }
  const absl::Status& start_error() const { return start_error_; }
  // How long it has been silent; 0 while all is well.
  std::chrono::milliseconds hanging() const;
  // What the process was doing when it hung in the kernel (ReportDoing in support/report.h);
  // nullopt if it hangs elsewhere or did not say. It may say anything.
  std::optional<uint64_t> stuck_at() const;
  const char* state() const;  // "starting", "serving", "hung", "ending", "left behind"
  const supervision::Heartbeat& heartbeat() const { return heartbeat_; }  // the last one

  // Sends `message` after the snapshot and everything else that waits, in order.
  void SendLater(supervision::Message message);
  // False when there is no room: a process that does not read its control socket is not well.
  bool SendNow(const supervision::Encoded& message);
  template <typename M>
  bool SendNow(const M& message) {
    return SendNow(supervision::EncodeOne(message));
  }
  // A process that cannot be told this is of no use: it counts as lost, also if it is just ending
  // by itself.
  void SendOrEnd(const supervision::Encoded& message);
  template <typename M>
  void SendOrEnd(const M& message) {
    SendOrEnd(supervision::EncodeOne(message));
  }
  // Closes the control socket, which tells the process to end, and sends SIGKILL if it has not
  // ended in time.
  void End();
  // The process was told to end by a message, and has this long.
  void EndWithin(std::chrono::milliseconds time);
  void Kill();

  // To be called every kLookPeriod.
  void Look(Clock::time_point now);

 private:
  asio::awaitable<void> Run(Snapshot snapshot, const TicketKeyRing* ticket_keys);
  asio::awaitable<bool> SendSnapshot(const Snapshot& snapshot, const TicketKeyRing* ticket_keys);
  asio::awaitable<bool> StartProgram(UniqueFd control, UniqueFd memory);
  asio::awaitable<void> Hear(bool wait);
  asio::awaitable<void> AwaitEnd();
  bool Handle(supervision::Message message);
  void Lost();
  void Hung();
  std::chrono::milliseconds silent() const;
  void LogIsHeld();
  void LogEnd(const ExitStatus& status) const;
  std::string Who() const;  // for the log
  std::string LogTag() const;

  asio::any_io_executor executor_;
  const Spec spec_;
  const std::function<bool(supervision::Message)> heard_;
  const std::function<void()> changed_;
  ControlChannel control_;
  std::vector<supervision::Message> waiting_;  // until the snapshot was sent
  bool snapshot_sent_ = false;
  ring::Reader reports_;
  UniqueFd bell_;
  std::optional<Watch> bell_watch_;
  std::unique_ptr<LogPipe> log_;
  std::shared_ptr<ChildProcess> process_;  // null until it runs
  std::optional<ExitStatus> status_;       // once it has ended
  Event ended_;
  std::optional<supervision::Failed> failed_;
  absl::Status start_error_;
  bool ready_ = false;
  bool told_to_end_ = false;
  bool lost_ = false;
  bool hung_ = false;
  bool in_kernel_ = false;  // when it hung, as far as that can be seen
  bool gone_ = false;
  bool left_behind_ = false;
  supervision::Heartbeat heartbeat_;
  Pulse pulse_;
  Clock::time_point kill_at_ = Clock::time_point::max();  // when it is or was killed
};

}  // namespace tlsbroker::supervisor

#endif  // TLSBROKER_BROKER_SUPERVISOR_ROLE_PROCESS_H_
