// SPDX-License-Identifier: Apache-2.0
#include "client-lib/tools/heartbeat.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <cstdint>
#include <cstdlib>
#include <cstring>

#include "broker/support/heartbeat_variable.h"
#include "protocol/message.h"

namespace tlsbroker::tools {

Heartbeat Heartbeat::FromEnvironment() {
  Heartbeat heartbeat;
  const char* text = std::getenv(kHeartbeatVariable);
  if (text == nullptr) return heartbeat;
  int fd = -1;
  std::from_chars(text, text + std::strlen(text), fd);
  unsetenv(kHeartbeatVariable);
  if (fd <= STDERR_FILENO) return heartbeat;
  if (fcntl(fd, F_SETFD, FD_CLOEXEC) == 0) heartbeat.counter_ = UniqueFd(fd);
  return heartbeat;
}

int Heartbeat::TimeLeft() const {
  if (!counter_) return -1;
  const auto left = std::chrono::ceil<std::chrono::milliseconds>(due_ - Clock::now());
  return static_cast<int>(std::max<int64_t>(left.count(), 0));
}

void Heartbeat::Beat() {
  const auto now = Clock::now();
  if (!counter_ || now < due_) return;
  due_ = now + supervision::kHeartbeatPeriod;
  const uint64_t one = 1;
  (void)!write(counter_.get(), &one, sizeof(one));
}

}  // namespace tlsbroker::tools
