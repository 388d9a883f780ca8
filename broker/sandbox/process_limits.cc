// SPDX-License-Identifier: Apache-2.0
#include "broker/sandbox/process_limits.h"

#include <sched.h>
#include <sys/prctl.h>
#include <sys/resource.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <iterator>

#include "broker/support/status.h"

namespace tlsbroker::sandbox {
namespace {

constexpr rlim_t kEnoughDescriptors = 65536;
constexpr rlim_t kLeastDescriptors = 1024;

absl::Status SetLimit(__rlimit_resource resource, rlim_t soft, rlim_t hard) {
  const rlimit limit = {.rlim_cur = soft, .rlim_max = hard};
  if (setrlimit(resource, &limit) != 0) return ErrnoStatus("setrlimit");
  return absl::OkStatus();
}

}  // namespace

absl::Status LimitResource(__rlimit_resource resource, uint64_t limit) {
  return SetLimit(resource, limit, limit);
}

absl::Status ForbidDumps() {
  RETURN_IF_ERROR(SetLimit(RLIMIT_CORE, 0, 0));
  if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) != 0) return ErrnoStatus("PR_SET_DUMPABLE");
  return absl::OkStatus();
}

absl::Status AllowCoreDumps() {
  rlimit limit;
  if (getrlimit(RLIMIT_CORE, &limit) != 0) return ErrnoStatus("getrlimit");
  return SetLimit(RLIMIT_CORE, limit.rlim_max, limit.rlim_max);
}

absl::Status ForbidProcesses() { return SetLimit(RLIMIT_NPROC, 0, 0); }

absl::Status RaiseDescriptorLimit(uint64_t max) {
  rlimit limit;
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return ErrnoStatus("getrlimit");
  const rlim_t wanted = std::min<rlim_t>(std::max(limit.rlim_max, kEnoughDescriptors),
                                         std::max(max, kLeastDescriptors));
  // Only root may raise the hard limit.
  if (SetLimit(RLIMIT_NOFILE, wanted, wanted).ok()) return absl::OkStatus();
  const rlim_t possible = std::min(wanted, limit.rlim_max);
  return SetLimit(RLIMIT_NOFILE, possible, possible);
}

absl::Status RequireSingleThread() {
  // unshare(2): permitted "if the caller is single threaded. In this case, [it has] no effect".
  if (unshare(CLONE_THREAD) == 0) return absl::OkStatus();
  // Filters of containers refuse the call whatever it asks for; then the kernel's list has to do.
  // Without /proc there is no list, and a second thread would not be seen; but no process of the
  // broker starts threads.
  const bool refused = errno == EPERM || errno == ENOSYS;
  std::error_code error;
  const std::filesystem::directory_iterator threads("/proc/self/task", error);
  if (refused && std::distance(begin(threads), end(threads)) <= 1) return absl::OkStatus();
  return absl::FailedPreconditionError("more than one thread runs");
}

}  // namespace tlsbroker::sandbox
