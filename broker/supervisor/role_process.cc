// SPDX-License-Identifier: Apache-2.0
#include "broker/supervisor/role_process.h"

#include <signal.h>
#include <sys/socket.h>

#include <asio/co_spawn.hpp>
#include <asio/post.hpp>
#include <asio/use_awaitable.hpp>
#include <utility>

#include "broker/support/coroutines.h"
#include "broker/support/log.h"
#include "broker/support/status.h"
#include "protocol/channel.h"
#include "protocol/ring.h"
#include "protocol/supervision.h"

namespace tlsbroker::supervisor {
namespace {

using std::chrono::milliseconds;

}  // namespace

RoleProcess::RoleProcess(const asio::any_io_executor& executor, Spec spec,
                         std::function<bool(supervision::Message)> heard,
                         std::function<void()> changed)
    : executor_(executor),
      spec_(std::move(spec)),
      heard_(std::move(heard)),
      changed_(std::move(changed)),
      control_(executor),
      ended_(executor) {}

void RoleProcess::Start(Snapshot snapshot, std::unique_ptr<LogPipe> log,
                        const TicketKeyRing* ticket_keys) {
  log_ = std::move(log);
  asio::co_spawn(executor_, Run(std::move(snapshot), ticket_keys), EndsProcess());
}

// The life of a process: it gets the snapshot, says what it has to say, and ends.
asio::awaitable<void> RoleProcess::Run(Snapshot snapshot, const TicketKeyRing* ticket_keys) {
  const auto self = shared_from_this();
  auto [ours, theirs] = channel::MakePair();
  ring::Ring reports = ring::Make();
  ring::Mapping memory(reports.memory.get());
  // Messages go downwards only: a packet that the process sends, and a descriptor in it, gets
  // EPIPE.
  if (!ours || !memory || shutdown(ours.get(), SHUT_RD) != 0) {
    start_error_ = ErrnoStatus("channels of a process");
    gone_ = true;
    Lost();
    co_return;
  }
  control_.Use(std::move(ours));
  reports_ = ring::Reader(std::move(memory));
  bell_ = std::move(reports.bell);
  bell_watch_.emplace(executor_, bell_.get());
  const bool started = co_await StartProgram(std::move(theirs), std::move(reports.memory));
  if (!started) {
    Snapshot().swap(snapshot);
    co_return;
  }
  asio::co_spawn(executor_, AwaitEnd(), EndsProcess());
  const bool sent = co_await SendSnapshot(snapshot, ticket_keys);
  Snapshot().swap(snapshot);  // it has descriptors, listeners among them
  co_await Hear(/*wait=*/sent);
  if (!told_to_end_) Lost();
  End();
  while (!status_) co_await ended_.Wait();
  gone_ = true;
  LogEnd(*status_);
  changed_();
}

asio::awaitable<void> RoleProcess::AwaitEnd() {
  const auto self = shared_from_this();
  const ExitStatus status = co_await process_->Exited();
  status_ = status;
  bell_watch_->Cancel();
  ended_.Notify();
}

asio::awaitable<bool> RoleProcess::StartProgram(UniqueFd control, UniqueFd memory) {
  const SpawnRequest request{.arguments = {spec_.program},
                             .environment = spec_.environment,
                             .fds = {control.get(), bell_.get(), memory.get()},
                             .log = log_ ? log_->writing() : -1};
  if (log_) {
    log_->Name(LogTag());
    log_->OnHeld([weak = weak_from_this()] {
      if (const auto self = weak.lock()) self->LogIsHeld();
    });
  }
  absl::StatusOr<Process> process = co_await Spawn(executor_, request);
  if (log_) log_->CloseWriting();
  if (!process.ok()) {
    start_error_ = process.status();
    gone_ = true;
    if (!told_to_end_) Lost();
    changed_();
    co_return false;
  }
  process_ = std::make_shared<ChildProcess>(executor_, *std::move(process));
  log::Info("started" + Who());
  if (told_to_end_) process_->Signal(SIGKILL);
  co_return true;
}

asio::awaitable<bool> RoleProcess::SendSnapshot(const Snapshot& snapshot,
                                                const TicketKeyRing* ticket_keys) {
  for (const supervision::Message& message : snapshot) {
    supervision::Encoded encoded = supervision::Encode(message);
    const bool sent = co_await control_.Send(std::move(encoded));
    if (!sent) co_return false;
    if (ticket_keys == nullptr || !std::holds_alternative<supervision::Settings>(message)) continue;
    const TicketKeysMessage keys = ticket_keys->Message();
    encoded = supervision::Encode(keys.message());
    const bool keys_sent = co_await control_.Send(std::move(encoded));
    if (!keys_sent) co_return false;
  }
  while (!waiting_.empty()) {
    const std::vector<supervision::Message> messages = std::exchange(waiting_, {});
    for (const supervision::Message& message : messages) {
      supervision::Encoded encoded = supervision::Encode(message);
      const bool sent = co_await control_.Send(std::move(encoded));
      if (!sent) co_return false;
    }
  }
  snapshot_sent_ = true;
  co_return true;
}

void RoleProcess::SendLater(supervision::Message message) {
  if (!snapshot_sent_) {
    waiting_.push_back(std::move(message));
  } else {
    SendOrEnd(supervision::Encode(message));
  }
}

void RoleProcess::SendOrEnd(const supervision::Encoded& message) {
  if (SendNow(message)) return;
  control_.Close();
  if (!ready_) return;  // Hear() reads why
  if (!told_to_end_) Lost();
  End();
}

// A process that has ended before it was told everything may have said why. What it said before its
// end is read in any case.
asio::awaitable<void> RoleProcess::Hear(bool wait) {
  supervision::Conversation conversation(spec_.says);
  Event pause(executor_);
  Clock::time_point second = Clock::now();
  int read = 0;
  for (;;) {
    const auto result = reports_.Next();
    if (result == ring::Result::kWouldBlock) {
      if (!wait) co_return;
      const bool runs = co_await bell_watch_->Readable();
      wait = runs;
      ring::Silence(bell_.get());
    } else {
      auto message =
          result == ring::Result::kOk ? conversation.Decode(reports_.message(), {}) : std::nullopt;
      const bool talking = message && Handle(*std::move(message)) &&
                           conversation.phase() != supervision::Phase::kOver;
      if (!talking) co_return;
      changed_();
      co_await asio::post(executor_, asio::use_awaitable);  // others' turn, if this one never stops
    }
    if (++read < kMaxReports || status_) continue;
    co_await pause.Wait(second + std::chrono::seconds(1));
    second = Clock::now();
    read = 0;
  }
}

bool RoleProcess::Handle(supervision::Message message) {
  if (const auto* beat = std::get_if<supervision::Heartbeat>(&message)) {
    heartbeat_ = *beat;
    pulse_.Beat();
    return true;
  }
  if (std::holds_alternative<supervision::Ready>(message)) {
    ready_ = true;
    pulse_.Beat();
    return true;
  }
  if (!ready_ && std::holds_alternative<supervision::Failed>(message)) {
    failed_ = std::get<supervision::Failed>(std::move(message));
    return true;
  }
  return heard_(std::move(message));
}

void RoleProcess::Lost() {
  lost_ = true;
  changed_();
}

std::string RoleProcess::Who() const {
  std::string who = log::Field("role", spec_.role);
  if (!spec_.service.empty()) who += log::Field("service", spec_.service);
  if (spec_.generation != 0) who += log::Field("generation", std::to_string(spec_.generation));
  return who + log::Field("pid", std::to_string(pid()));
}

// "handshaker.web[3.0]: ": service, generation, and which one of it.
std::string RoleProcess::LogTag() const {
  const size_t index = spec_.role.find('[');
  std::string tag = spec_.role.substr(0, index);
  if (!spec_.service.empty()) tag += "." + spec_.service;
  if (index != std::string::npos)
    tag += "[" + std::to_string(spec_.generation) + "." + spec_.role.substr(index + 1);
  return tag + ": ";
}

// A reason that the process reported is logged elsewhere, with its place in the configuration; that
// it hangs was logged before.
void RoleProcess::LogEnd(const ExitStatus& status) const {
  const std::string line = "ended" + Who() + " " + status.ToString();
  lost_ && !failed_ && !hung_ ? log::Error(line) : log::Info(line);
}

bool RoleProcess::SendNow(const supervision::Encoded& message) { return control_.SendNow(message); }

void RoleProcess::End() {
  control_.Close();
  EndWithin(milliseconds(0));
}

void RoleProcess::EndWithin(milliseconds time) {
  told_to_end_ = true;
  kill_at_ = std::min(kill_at_, Clock::now() + time + kEndTimeout);
  if (process_) process_->KillAfter(kill_at_ - Clock::now());
}

void RoleProcess::Kill() {
  told_to_end_ = true;
  kill_at_ = std::min(kill_at_, Clock::now());
  if (process_) process_->Signal(SIGKILL);
}

milliseconds RoleProcess::silent() const {
  return std::chrono::duration_cast<milliseconds>(Clock::now() - pulse_.last());
}

milliseconds RoleProcess::hanging() const {
  return hung_ || left_behind_ ? silent() : milliseconds(0);
}

const char* RoleProcess::state() const {
  if (left_behind_) return "left behind";
  if (hung_) return "hung";
  if (told_to_end_) return "ending";
  return ready_ ? "serving" : "starting";
}

void RoleProcess::Look(Clock::time_point now) {
  if (gone_ || left_behind_ || !process_ || status_) return;
  if (kill_at_ != Clock::time_point::max() && now - kill_at_ > kReapTimeout) {
    left_behind_ = true;
    log::Error("cannot be ended, left behind" + Who());
    changed_();
    return;
  }
  if (hung_ || !pulse_.Hangs(pid(), now)) return;
  const auto state = ReadProcessState(pid());
  const char letter = state ? state->state : ProcessState::kUnknown;
  in_kernel_ = letter == 'D' || letter == ProcessState::kUnknown;
  log::Error("hangs, killed" + Who() + log::Field("silent_ms", std::to_string(silent().count())) +
             log::Field("state", std::string(1, letter)));
  Hung();
}

void RoleProcess::Hung() {
  hung_ = true;
  lost_ = lost_ || !told_to_end_;
  Kill();
  changed_();
}

// A role has no system call that can hold the pipe. Another process that has the pipe's descriptor
// holds it, and only a role that was taken over gives that descriptor away.
void RoleProcess::LogIsHeld() {
  if (gone_ || left_behind_ || hung_ || !process_ || status_) return;
  log::Error("another process holds the pipe of its log, killed" + Who());
  Hung();
}

std::optional<uint64_t> RoleProcess::stuck_at() const {
  if (!hung_ || !in_kernel_ || reports_.doing() == 0) return std::nullopt;
  return reports_.doing();
}

}  // namespace tlsbroker::supervisor
