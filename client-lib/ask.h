// SPDX-License-Identifier: Apache-2.0
// One request to the broker and its answer (PROTOCOL.md section 6). Part of libtlsbroker; runs in
// workers.

#ifndef TLSBROKER_CLIENT_LIB_ASK_H_
#define TLSBROKER_CLIENT_LIB_ASK_H_

#include <chrono>
#include <cstdint>
#include <optional>
#include <span>

#include "protocol/channel.h"

namespace tlsbroker::client {

struct Answered {
  size_t max_size;
  size_t max_fds;
  std::chrono::milliseconds timeout;
};

// Whether there is a free descriptor number: 0 or -errno. A message whose descriptor finds none is
// delivered without it, and the connection is lost; accept(2) takes the number first. So this is
// asked before there is something to lose. `any_fd` is copied to find out.
int CheckFreeDescriptor(int any_fd);

// nullopt if no valid answer comes in time: errno is ETIMEDOUT, or something else if none can come
// any more. `fds` stay the caller's.
std::optional<channel::Message> Ask(int requests, std::span<const uint8_t> message,
                                    std::span<const int> fds, const Answered& answered);

}  // namespace tlsbroker::client

#endif  // TLSBROKER_CLIENT_LIB_ASK_H_
