// SPDX-License-Identifier: Apache-2.0
#include "broker/porter/loop.h"

#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <span>
#include <utility>
#include <variant>

#include "broker/support/descriptors.h"
#include "broker/support/report.h"
#include "broker/support/status.h"
#include "protocol/supervision.h"

namespace tlsbroker::porter {
namespace {

// Without a free descriptor the listener stays readable: look again when there may be one.
constexpr std::chrono::milliseconds kPause{100};

}  // namespace

absl::Status Loop::Open(supervision::Door door) {
  if (!IsUnixSocket(door.socket.get(), visitors_->socket_type()))
    return absl::InternalError("a descriptor from the supervisor is of the wrong kind");
  if (listen(door.socket.get(), SOMAXCONN) != 0) return ErrnoStatus("listen");
  door_ = std::move(door.socket);
  return absl::OkStatus();
}

absl::Status Loop::Run() {
  for (;;) {
    ASSIGN_OR_RETURN(const bool go_on, Turn());
    if (!go_on) return absl::OkStatus();
    Beat();
  }
}

absl::StatusOr<bool> Loop::Turn() {
  // The supervisor changes the rules before the name's permissions. poll(2) looks at the door first
  // and at the control socket afterwards, so whoever can connect because of the new permissions
  // finds the new rules.
  Clock::time_point now = Clock::now();
  const bool open = visitors_->room() && now >= pause_until_;
  polled_.assign({{open ? door_.get() : -1, POLLIN, 0}, {control_.socket(), POLLIN, 0}});
  visitors_->AddPolled(polled_);
  if (poll(polled_.data(), polled_.size(), Timeout(now)) < 0) {
    if (errno == EINTR) return true;
    return ErrnoStatus("poll");
  }
  now = Clock::now();
  RETURN_IF_ERROR(visitors_->Serve(std::span(polled_).subspan(2), now));
  if (polled_[1].revents != 0) {
    ASSIGN_OR_RETURN(const bool go_on, HearSupervisor());
    if (!go_on) return false;
  }
  if (polled_[0].revents != 0) RETURN_IF_ERROR(Accept());
  return true;
}

int Loop::Timeout(Clock::time_point now) const {
  Clock::time_point end = std::min(next_beat_, visitors_->deadline());
  if (now < pause_until_) end = std::min(end, pause_until_);
  const auto left = std::chrono::ceil<std::chrono::milliseconds>(end - now);
  return static_cast<int>(std::clamp<int64_t>(left.count(), 0, 60'000));
}

absl::StatusOr<bool> Loop::HearSupervisor() {
  for (;;) {
    auto message = control_.NextIfAny();
    if (absl::IsUnavailable(message.status())) return false;
    RETURN_IF_ERROR(message.status());
    if (!*message) return true;
    if (auto* door = std::get_if<supervision::Door>(&**message)) {
      RETURN_IF_ERROR(Open(std::move(*door)));
    } else {
      RETURN_IF_ERROR(visitors_->Handle(**std::move(message)));
    }
  }
}

absl::Status Loop::Accept() {
  UniqueFd socket(accept4(door_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
  if (socket) return visitors_->Welcome(std::move(socket));
  if (errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS)
    pause_until_ = Clock::now() + kPause;
  return absl::OkStatus();
}

// If a heartbeat is lost, the next one says the same.
void Loop::Beat() {
  const Clock::time_point now = Clock::now();
  if (now < next_beat_) return;
  next_beat_ = now + supervision::kHeartbeatPeriod;
  (void)Report(supervision::Heartbeat{});
}

}  // namespace tlsbroker::porter
