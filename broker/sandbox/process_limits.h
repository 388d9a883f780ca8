// SPDX-License-Identifier: Apache-2.0
// What a process of the broker gives up besides rights: core dumps, readers of its memory,
// children; and the one thing that it needs more of, descriptors.

#ifndef TLSBROKER_BROKER_SANDBOX_PROCESS_LIMITS_H_
#define TLSBROKER_BROKER_SANDBOX_PROCESS_LIMITS_H_

#include <sys/resource.h>

#include <cstdint>

#include "absl/status/status.h"

namespace tlsbroker::sandbox {

// No core dump, and no ptrace or /proc/PID/mem by processes of the same user. Changing the user
// resets the latter, so this has to be called after that change (and may be called before it, too).
absl::Status ForbidDumps();

// No fork and no threads, unless the process is root's.
absl::Status ForbidProcesses();

// As many descriptors as the machine gives, and at most `max`. Those that are in flight over Unix
// sockets count for their user too (too_many_unix_fds in the kernel's net/core/scm.c and
// net/unix/scm.c), so waiting hand-offs need room.
absl::Status RaiseDescriptorLimit(uint64_t max = UINT64_MAX);

// Dumps of any size that the hard limit has.
absl::Status AllowCoreDumps();

// Soft and hard limit alike.
absl::Status LimitResource(__rlimit_resource resource, uint64_t limit);

// Fails if there is more than one thread: rights are dropped, and filters apply, thread by thread.
absl::Status RequireSingleThread();

}  // namespace tlsbroker::sandbox

#endif  // TLSBROKER_BROKER_SANDBOX_PROCESS_LIMITS_H_
