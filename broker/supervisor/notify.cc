// SPDX-License-Identifier: Apache-2.0
#include "broker/supervisor/notify.h"

#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>

#include "broker/support/log.h"
#include "protocol/unique_fd.h"

namespace tlsbroker::supervisor {
namespace {

// The service manager ignores messages of more than 4096 bytes (NOTIFY_BUFFER_MAX in systemd), and
// a byte may become four.
constexpr size_t kMaxStatus = 1000;

// For RELOADING=1: systemd compares it with its own clock.
std::string MonotonicMicroseconds() {
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);
  return std::to_string(int64_t{now.tv_sec} * 1'000'000 + now.tv_nsec / 1'000);
}

// The variables are meant for one process, which WATCHDOG_PID names if it is there.
std::optional<std::chrono::microseconds> WatchdogPeriod() {
  const char* time = std::getenv("WATCHDOG_USEC");
  const char* pid = std::getenv("WATCHDOG_PID");
  if (time == nullptr || (pid != nullptr && std::to_string(getpid()) != pid)) return std::nullopt;
  const int64_t microseconds = std::strtoll(time, nullptr, 10);
  if (microseconds <= 0) return std::nullopt;
  return std::chrono::microseconds(microseconds) / 2;
}

}  // namespace

Notifier::Notifier() : watchdog_period_(WatchdogPeriod()) {
  const char* path = std::getenv("NOTIFY_SOCKET");
  if (path != nullptr) socket_ = path;
  for (const char* variable : {"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"})
    unsetenv(variable);
}

void Notifier::KeepAlive() const { Send("WATCHDOG=1"); }

void Notifier::Ready(std::string_view status) const {
  Send("READY=1\nSTATUS=" + log::Printable(status.substr(0, kMaxStatus)));
}

void Notifier::Starting(std::string_view status, std::chrono::microseconds longer) const {
  Send("EXTEND_TIMEOUT_USEC=" + std::to_string(longer.count()) +
       "\nSTATUS=" + log::Printable(status.substr(0, kMaxStatus)));
}

void Notifier::Reloading() const { Send("RELOADING=1\nMONOTONIC_USEC=" + MonotonicMicroseconds()); }

void Notifier::Stopping(std::chrono::microseconds longest) const {
  Send("STOPPING=1\nEXTEND_TIMEOUT_USEC=" + std::to_string(longest.count()));
}

// A service manager that cannot be told does not keep the broker from working.
void Notifier::Send(const std::string& state) const {
  sockaddr_un address{};
  if (socket_.empty() || socket_.size() >= sizeof(address.sun_path)) return;
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path, socket_.data(), socket_.size());
  if (socket_[0] == '@') address.sun_path[0] = '\0';  // an abstract name
  const auto size = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + socket_.size());
  const UniqueFd fd(socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  (void)sendto(fd.get(), state.data(), state.size(), MSG_NOSIGNAL | MSG_DONTWAIT,
               reinterpret_cast<const sockaddr*>(&address), size);
}

}  // namespace tlsbroker::supervisor
