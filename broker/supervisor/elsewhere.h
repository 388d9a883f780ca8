// SPDX-License-Identifier: Apache-2.0
// Does in another process what may hang, so that only that process hangs and not the supervisor:
//
// - close(2) of a socket whose queue holds unread descriptors of others. The last close drops those
//   descriptors, which can take as long as their sender likes (SO_LINGER, a file system of the
//   sender's own). close(2) of a pipe that somebody splices into.
// - System calls on a socket that a less privileged process has, too: setsockopt(2) holds the
//   socket's lock while it copies its argument, such as the instructions of SO_ATTACH_FILTER,
//   perhaps out of a file of a slow file system, and everybody else who needs that lock waits in
//   state D.
//
// Runs in the supervisor.

#ifndef TLSBROKER_BROKER_SUPERVISOR_ELSEWHERE_H_
#define TLSBROKER_BROKER_SUPERVISOR_ELSEWHERE_H_

#include <chrono>
#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "broker/supervisor/event_loop.h"
#include "protocol/unique_fd.h"

namespace tlsbroker::supervisor {

// `service` is the service whose descriptors they were, or whose processes can make the errand
// hang. A service may have this many processes that do not end. After that its errands are not done
// any more, and a descriptor that should be closed is leaked, which costs one descriptor number.
inline constexpr size_t kMaxErrands = 8;

// Leaves the last copies of the descriptors to a process that does nothing else than close them.
// Returns at once.
void CloseElsewhere(std::vector<UniqueFd> descriptors, const std::string& service);

// In the other process only system calls work: it is a copy of this process, made at any moment.
using Errand = bool (*)(int fd, int argument);

// How long DoElsewhere() waits for an errand. If an errand was late, those of the same service are
// not waited for during kErrandPause.
inline constexpr std::chrono::milliseconds kErrandPatience{100};
inline constexpr std::chrono::seconds kErrandPause{10};

// Has `what` called in another process with a descriptor for the same file. Returns true if that
// was done in time and `what` returned true; if not, it may still be done later.
bool DoElsewhere(int fd, Errand what, int argument, const std::string& service);
// The same, and then as CloseElsewhere().
bool DoAndCloseElsewhere(UniqueFd fd, Errand what, int argument, const std::string& service);

// Reaps the processes that have ended. To be called now and then.
void ReapErrands();

// How many of a service's processes should have ended long ago, but the kernel cannot end them.
size_t StuckErrands(std::string_view service, Clock::time_point now);

}  // namespace tlsbroker::supervisor

#endif  // TLSBROKER_BROKER_SUPERVISOR_ELSEWHERE_H_
