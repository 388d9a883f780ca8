// SPDX-License-Identifier: Apache-2.0
#include "broker/sandbox/machine.h"

#include <fcntl.h>
#include <sched.h>
#include <sys/capability.h>
#include <sys/stat.h>
#include <unistd.h>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "broker/sandbox/capabilities.h"
#include "broker/sandbox/landlock.h"
#include "broker/support/log.h"

namespace tlsbroker::sandbox {
namespace {

// Without flags it does nothing, unless a filter refuses it (unshare(2)).
bool MayUnshare() { return HasCapability(CAP_SYS_ADMIN) && unshare(0) == 0; }

// Kernels before 5.8 do not say it.
bool RootIsMountPoint() {
  struct statx root {};
  return statx(AT_FDCWD, "/", AT_STATX_DONT_SYNC, 0, &root) == 0 &&
         ((root.stx_attributes_mask & STATX_ATTR_MOUNT_ROOT) == 0 ||
          (root.stx_attributes & STATX_ATTR_MOUNT_ROOT) != 0);
}

}  // namespace

Machine Machine::Inspect() {
  const bool namespaces = MayUnshare();
  return {
      .root = geteuid() == 0,
      .namespaces = namespaces,
      .mounts = namespaces && RootIsMountPoint(),
      .landlock_version = Landlock::Version(),
  };
}

void MissingParts::Log(std::string_view who) const {
  if (parts_.empty()) return;
  log::Warning(absl::StrCat(
      absl::string_view(who.data(), who.size()),
      " is confined as far as this machine allows, without: ", absl::StrJoin(parts_, "; ")));
}

}  // namespace tlsbroker::sandbox
