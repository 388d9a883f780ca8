// SPDX-License-Identifier: Apache-2.0
#include "broker/sandbox/user.h"

#include <grp.h>
#include <unistd.h>

#include "broker/support/status.h"

namespace tlsbroker::sandbox {
namespace {

absl::Status CheckIsUser(uid_t uid, gid_t gid) {
  uid_t ruid, euid, suid;
  gid_t rgid, egid, sgid;
  if (getresuid(&ruid, &euid, &suid) != 0) return ErrnoStatus("getresuid");
  if (getresgid(&rgid, &egid, &sgid) != 0) return ErrnoStatus("getresgid");
  if (ruid != uid || euid != uid || suid != uid || rgid != gid || egid != gid || sgid != gid) {
    return absl::InternalError("user or group is not the one that was set");
  }
  if (getgroups(0, nullptr) != 0)
    return absl::InternalError("some supplementary groups could not be given up");
  return absl::OkStatus();
}

}  // namespace

absl::Status BecomeUser(uid_t uid, gid_t gid) {
  if (uid == 0) return absl::InvalidArgumentError("refusing to run as root: name another user");
  if (setgroups(0, nullptr) != 0) return ErrnoStatus("setgroups");
  if (setresgid(gid, gid, gid) != 0) return ErrnoStatus("setresgid");
  if (setresuid(uid, uid, uid) != 0) return ErrnoStatus("setresuid");
  return CheckIsUser(uid, gid);
}

}  // namespace tlsbroker::sandbox
