// SPDX-License-Identifier: Apache-2.0
#include "broker/supervisor/logger.h"

#include <algorithm>
#include <asio/co_spawn.hpp>
#include <utility>

#include "broker/support/coroutines.h"
#include "broker/support/log.h"
#include "broker/support/status.h"
#include "protocol/supervision.h"

namespace tlsbroker::supervisor {

using std::chrono::milliseconds;

Logger::Logger(const asio::any_io_executor& executor, Spec spec, std::function<void()> changed)
    : executor_(executor),
      spec_(std::move(spec)),
      changed_(std::move(changed)),
      sources_(std::make_shared<LogSources>([this] {
        TellNames();
        wake_.Notify();
      })),
      wake_(executor) {}

void Logger::Start() { asio::co_spawn(executor_, Run(), EndsProcess()); }

// While a process cannot be ended, no second one is started beside it, unless it is known in which
// pipe the first one hangs: the second one would hang in the same pipe.
asio::awaitable<void> Logger::Run() {
  const auto self = shared_from_this();
  while (!finishing_) {
    if (!needed()) {
      co_await wake_.Wait();
      continue;
    }
    const Clock::time_point started = last_needed_ = Clock::now();
    start_error_ = StartProcess();
    if (!start_error_.ok())
      log::Error("no log" + log::Field("service", spec_.service) + ": " +
                 std::string(start_error_.message()));
    changed_();
    while (!ProcessIsGone()) co_await wake_.Wait();
    if (std::exchange(at_once_, false)) continue;
    const Clock::time_point next = Clock::now() + backoff_.Next(Clock::now() - started);
    while (!finishing_ && Clock::now() < next) co_await wake_.Wait(next);
  }
  gone_ = true;
  changed_();
}

absl::Status Logger::StartProcess() {
  process_ = nullptr;
  sources_->ToldNobody();
  const auto& log = spec_.log ? spec_.log : sources_;
  ASSIGN_OR_RETURN(std::unique_ptr<LogPipe> own_log,
                   log->Open(LogSources::Kind::kRole, spec_.service));
  ASSIGN_OR_RETURN(Snapshot snapshot, MakeSnapshot());
  process_ = std::make_shared<RoleProcess>(
      executor_,
      RoleProcess::Spec{.role = "logger",
                        .service = spec_.service,
                        .program = spec_.program,
                        .says = supervision::kFromLogger},
      [weak = weak_from_this()](const supervision::Message& message) {
        const auto self = weak.lock();
        return self && self->Heard(message);
      },
      [weak = weak_from_this()] {
        if (const auto self = weak.lock()) self->ProcessChanged();
      });
  process_->Start(std::move(snapshot), std::move(own_log));
  return absl::OkStatus();
}

absl::StatusOr<Snapshot> Logger::MakeSnapshot() {
  Snapshot snapshot;
  snapshot.emplace_back(spec_.confinement);
  ASSIGN_OR_RETURN(supervision::LogOutput output, spec_.output());
  snapshot.emplace_back(std::move(output));
  for (const uint32_t id : sources_->Untold()) {
    ASSIGN_OR_RETURN(supervision::LogSource source, sources_->Message(id));
    snapshot.emplace_back(std::move(source));
    sources_->Told(id);
  }
  snapshot.emplace_back(supervision::Start{});
  return snapshot;
}

bool Logger::ProcessIsGone() const {
  return !process_ || (process_->gone() && !process_->left_behind());
}

void Logger::ProcessChanged() {
  TellNames();
  wake_.Notify();
  changed_();
}

void Logger::TellNames() {
  if (!ready()) return;
  for (const uint32_t id : sources_->Untold()) {
    auto message = sources_->Message(id);
    // If there is no room, or no descriptor, this is tried again at the next look.
    if (!message.ok() || !process_->SendNow(*std::move(message))) return;
    sources_->Told(id);
  }
}

absl::Status Logger::error() const {
  if (!start_error_.ok() || !process_ || !process_->lost()) return start_error_;
  if (process_->failed()) return absl::InternalError(process_->failed()->text);
  if (!process_->start_error().ok()) return process_->start_error();
  return absl::InternalError("the process ended");
}

void Logger::OutputChanged() {
  if (!process_ || process_->lost()) return;  // the next process begins with it
  auto output = spec_.output();
  if (output.ok() && process_->SendNow(*std::move(output))) return;
  log::Error("the log cannot go to its new output; it goes on to the one from before" +
             log::Field("service", spec_.service));
}

void Logger::Finish(milliseconds time) {
  finishing_ = true;
  EndProcess(time);
  sources_->LetGoOfAll();
  wake_.Notify();
}

void Logger::EndProcess(milliseconds time) {
  if (ProcessIsGone()) return;
  (void)process_->SendNow(supervision::Drain{static_cast<uint32_t>(time.count())});
  process_->EndWithin(time);
}

void Logger::EndIdle(Clock::time_point now) {
  if (needed()) last_needed_ = now;
  if (!ready() || now - last_needed_ < kIdle) return;
  at_once_ = true;
  EndProcess(milliseconds(0));
}

void Logger::Kill() {
  finishing_ = true;
  if (process_) process_->Kill();
  wake_.Notify();
}

// The process is of no use before somebody releases the lock of the pipe in which it hangs. The
// next one reads all other pipes.
void Logger::SetAside() {
  std::erase_if(stuck_, [this](const Stuck& stuck) {
    const bool ended = stuck.process->gone() && !stuck.process->left_behind();
    if (ended) sources_->Release(stuck.pipe);
    return ended;
  });
  const auto at = process_ ? process_->stuck_at() : std::nullopt;
  if (!at || ProcessIsGone()) return;
  const auto pipe = static_cast<uint32_t>(*at - 1);
  const std::string owner = sources_->Hold(pipe).value_or(spec_.service);
  if (StuckIn(owner) >= kMaxStuck) return;
  stuck_.push_back({std::move(process_), pipe, owner});
  at_once_ = true;
  wake_.Notify();
}

size_t Logger::StuckIn(std::string_view service) const {
  return static_cast<size_t>(std::ranges::count(stuck_, service, &Stuck::owner));
}

bool Logger::Heard(const supervision::Message& message) {
  const auto* held = std::get_if<supervision::LogHeld>(&message);
  if (held != nullptr) sources_->Slow(held->id);
  return held != nullptr;
}

std::vector<std::shared_ptr<const RoleProcess>> Logger::stuck() const {
  std::vector<std::shared_ptr<const RoleProcess>> list;
  for (const Stuck& stuck : stuck_) list.push_back(stuck.process);
  return list;
}

void Logger::Look(Clock::time_point now) {
  if (process_) process_->Look(now);
  for (const Stuck& stuck : stuck_) stuck.process->Look(now);
  SetAside();
  const std::vector<uint32_t> let_go = sources_->Sweep();
  TellNames();
  for (const uint32_t id : let_go) {
    if (process_) (void)process_->SendNow(supervision::LogEnd{id});
  }
  EndIdle(now);
}

}  // namespace tlsbroker::supervisor
