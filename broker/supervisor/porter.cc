// SPDX-License-Identifier: Apache-2.0
#include "broker/supervisor/porter.h"

#include <sys/stat.h>

#include <algorithm>
#include <asio/co_spawn.hpp>
#include <utility>

#include "broker/supervisor/runtime_dir.h"
#include "broker/supervisor/snapshot.h"
#include "broker/support/coroutines.h"
#include "broker/support/log.h"
#include "broker/support/status.h"
#include "protocol/supervision.h"

namespace tlsbroker::supervisor {

Porter::Porter(const asio::any_io_executor& executor, std::string service, PorterStart start,
               std::string path, int type, Access access, Purpose& purpose,
               std::function<void()> changed)
    : executor_(executor),
      service_(std::move(service)),
      start_(std::move(start)),
      name_(std::move(path), type, std::move(access)),
      purpose_(&purpose),
      changed_(std::move(changed)),
      wake_(executor) {}

absl::Status Porter::Open() {
  ASSIGN_OR_RETURN(door_, name_.Bind());
  asio::co_spawn(executor_, Run(), EndsProcess());
  return absl::OkStatus();
}

asio::awaitable<void> Porter::Run() {
  const auto self = shared_from_this();
  while (!closed_) {
    const absl::Status started = StartProcess();
    while (started.ok() && !closed_ && !process_->lost() && !process_->told_to_end()) {
      if (process_->ready() && !std::exchange(settled_, true)) changed_();
      if (process_->ready() && duty_changed_) Tell();
      co_await wake_.Wait();
    }
    if (closed_) co_return;
    const bool wanted = std::exchange(restart_, false);
    if (!wanted && !(started.ok() && process_->ready())) LogFailure(started);
    settled_ = settled_ || !wanted;
    process_.reset();
    ++number_;
    purpose_->Ended();
    changed_();
    if (!wanted) co_await Rest(backoff_.Next(Clock::now() - started_));
    while (!closed_ && TooManyLeftBehind()) co_await Rest(Backoff::kLongest);
  }
}

asio::awaitable<void> Porter::Rest(Clock::duration time) {
  const Clock::time_point end = Clock::now() + time;
  while (!closed_ && Clock::now() < end) co_await wake_.Wait(end);
}

bool Porter::TooManyLeftBehind() const {
  const auto left =
      std::ranges::count_if(processes_, [](const auto& process) { return process->left_behind(); });
  if (left < kMaxLeftBehind) return false;
  log::Error("nobody can connect to " + name_.path() + ": " + std::to_string(left) +
             " processes that cannot be ended stood there");
  return true;
}

void Porter::LogFailure(const absl::Status& started) const {
  std::string why = "it did not become ready";
  if (!started.ok()) {
    why = std::string(started.message());
  } else if (process_->failed()) {
    why = process_->failed()->text;
  } else if (!process_->start_error().ok()) {
    why = std::string(process_->start_error().message());
  }
  log::Error("nobody can connect to " + name_.path() + ": " + log::Printable(why));
}

absl::Status Porter::StartProcess() {
  started_ = Clock::now();
  duty_changed_ = false;
  ASSIGN_OR_RETURN(Snapshot first, FirstMessages());
  std::unique_ptr<LogPipe> log;
  if (start_.log) {
    ASSIGN_OR_RETURN(log, start_.log->Open(LogSources::Kind::kRole, service_));
  }
  process_ = std::make_shared<RoleProcess>(
      executor_,
      RoleProcess::Spec{.role = "porter",
                        .service = service_,
                        .generation = 0,
                        .program = start_.program,
                        .environment = ChildEnvironment(log::level()),
                        .says = supervision::kFromPorter},
      // A process that was given up is not listened to any more.
      [weak = weak_from_this(), number = number_](supervision::Message message) {
        const auto self = weak.lock();
        return self && self->purpose_ != nullptr && self->number_ == number &&
               self->purpose_->Heard(std::move(message));
      },
      [weak = weak_from_this()] {
        if (const auto self = weak.lock()) self->Changed();
      });
  processes_.push_back(process_);
  process_->Start(std::move(first), std::move(log));
  return absl::OkStatus();
}

absl::StatusOr<Snapshot> Porter::FirstMessages() {
  if (!door_) {
    ASSIGN_OR_RETURN(door_, name_.Bind());
  }
  Snapshot messages;
  messages.emplace_back(start_.confinement);
  ASSIGN_OR_RETURN(supervision::Message duty, purpose_->Duty());
  messages.push_back(std::move(duty));
  messages.emplace_back(supervision::Door{std::move(door_)});
  messages.emplace_back(supervision::Start{});
  return messages;
}

void Porter::Changed() {
  wake_.Notify();
  changed_();
}

// A process that is starting may have its duty already, or not, so it gets the new one when it is
// ready.
void Porter::Tell() {
  if (closed_ || !process_) return;
  duty_changed_ = !process_->ready();
  if (duty_changed_) return;
  auto duty = purpose_->Duty();
  if (!duty.ok()) log::Error(std::string(duty.status().message()));
  if (!duty.ok() || !process_->SendNow(*duty)) process_->End();
}

bool Porter::SendNow(const supervision::Encoded& message) {
  return process_ && process_->SendNow(message);
}

void Porter::Restart(PorterStart start) {
  const auto& old = start_.confinement;
  const auto& next = start.confinement;
  const bool same = start_.program == start.program && old.change_user == next.change_user &&
                    old.uid == next.uid && old.gid == next.gid;
  start_ = std::move(start);
  if (same || closed_ || !process_) return;
  restart_ = true;
  settled_ = false;
  process_->End();
  Changed();
}

void Porter::Close() {
  if (closed_) return;
  closed_ = true;
  purpose_ = nullptr;
  name_.Remove();
  door_.Reset();
  if (process_) process_->End();
  Changed();
}

bool Porter::gone() const {
  return closed_ &&
         std::ranges::all_of(processes_, [](const auto& process) { return process->gone(); });
}

void Porter::Kill() {
  for (const auto& process : processes_) process->Kill();
}

void Porter::Look(Clock::time_point now) {
  for (const auto& process : processes_) process->Look(now);
  std::erase_if(processes_,
                [](const auto& process) { return process->gone() && !process->left_behind(); });
  if (closed_) return;
  if (process_ && !process_->ready() && !process_->gone() && now - started_ > kReadyTimeout)
    process_->Kill();
  LookAtName(now);
}

// Makes the name again if somebody has removed it, perhaps together with the runtime directory.
// Workers that are attached stay attached.
void Porter::LookAtName(Clock::time_point now) {
  if (now < next_look_at_name_ || !process_ || !process_->ready()) return;
  next_look_at_name_ = now + kNamePeriod;
  if (!name_.missing()) return;
  log::Warning(name_.path() + " was removed and is made again");
  const std::string directory = name_.path().substr(0, name_.path().rfind('/'));
  (void)mkdir(directory.c_str(), kRuntimeDirMode);
  absl::StatusOr<UniqueFd> door = name_.Bind();
  if (!door.ok()) return log::Error(std::string(door.status().message()));
  if (!process_->SendNow(supervision::Door{*std::move(door)})) process_->End();
}

}  // namespace tlsbroker::supervisor
