// SPDX-License-Identifier: Apache-2.0
// What an event of the runner's epoll(7) is about. Part of `tlsbroker run`.

#ifndef TLSBROKER_CLIENT_LIB_TOOLS_RUN_TOKEN_H_
#define TLSBROKER_CLIENT_LIB_TOOLS_RUN_TOKEN_H_

#include <cstdint>

namespace tlsbroker::tools {

enum Kind : uint64_t { kSignals, kTraps, kQueue, kKnock, kHeld, kClient, kDaemon };

constexpr int kKindBits = 3;
constexpr uint64_t TokenOf(Kind kind, uint64_t id) { return id << kKindBits | kind; }
constexpr Kind KindOf(uint64_t token) { return static_cast<Kind>(token & ((1U << kKindBits) - 1)); }
// An id is never used again, so that an event for something that is gone finds nothing.
constexpr uint64_t IdOf(uint64_t token) { return token >> kKindBits; }

}  // namespace tlsbroker::tools

#endif  // TLSBROKER_CLIENT_LIB_TOOLS_RUN_TOKEN_H_
