// SPDX-License-Identifier: Apache-2.0
#include "broker/sandbox/landlock.h"

#include <fcntl.h>
#include <linux/landlock.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <utility>

#include "absl/strings/str_cat.h"
#include "broker/support/status.h"

namespace tlsbroker::sandbox {
namespace {

// Constants of later versions; the headers of Debian 12 stop at version 2.
constexpr uint64_t kTruncate = 1ULL << 14;          // version 3
constexpr uint64_t kBindTcp = 1ULL << 0;            // version 4
constexpr uint64_t kConnectTcp = 1ULL << 1;         // version 4
constexpr uint64_t kIoctlDevice = 1ULL << 15;       // version 5
constexpr uint64_t kScopeAbstractUnix = 1ULL << 0;  // version 6
constexpr uint64_t kScopeSignal = 1ULL << 1;        // version 6

// struct landlock_ruleset_attr as of version 6; older kernels accept it as long as the fields that
// they do not know are zero.
struct RulesetAttributes {
  uint64_t handled_access_fs;
  uint64_t handled_access_net;
  uint64_t scoped;
};

constexpr uint64_t kRead = LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_READ_DIR;
constexpr uint64_t kWrite = LANDLOCK_ACCESS_FS_WRITE_FILE | LANDLOCK_ACCESS_FS_REMOVE_DIR |
                            LANDLOCK_ACCESS_FS_REMOVE_FILE | LANDLOCK_ACCESS_FS_MAKE_DIR |
                            LANDLOCK_ACCESS_FS_MAKE_REG | LANDLOCK_ACCESS_FS_MAKE_SOCK |
                            LANDLOCK_ACCESS_FS_MAKE_FIFO | LANDLOCK_ACCESS_FS_MAKE_SYM |
                            LANDLOCK_ACCESS_FS_REFER | kTruncate | kIoctlDevice;
constexpr uint64_t kDeviceNodes = LANDLOCK_ACCESS_FS_MAKE_CHAR | LANDLOCK_ACCESS_FS_MAKE_BLOCK;
// The rights that mean something on what is not a directory; any other right on it is EINVAL.
constexpr uint64_t kOnFile = LANDLOCK_ACCESS_FS_EXECUTE | LANDLOCK_ACCESS_FS_READ_FILE |
                             LANDLOCK_ACCESS_FS_WRITE_FILE | kTruncate | kIoctlDevice;

uint64_t HandledBy(int version) {
  uint64_t handled = kRead | kWrite | kDeviceNodes | LANDLOCK_ACCESS_FS_EXECUTE;
  if (version < 2) handled &= ~LANDLOCK_ACCESS_FS_REFER;
  if (version < 3) handled &= ~kTruncate;
  if (version < 5) handled &= ~kIoctlDevice;
  return handled;
}

uint64_t RightsOf(Landlock::Access access) {
  switch (access) {
    case Landlock::Access::kRead:
      return kRead;
    case Landlock::Access::kReadExecute:
      return kRead | LANDLOCK_ACCESS_FS_EXECUTE;
    case Landlock::Access::kReadWrite:
      return kRead | kWrite;
  }
  return 0;
}

}  // namespace

int Landlock::Version() {
  const long version =
      syscall(SYS_landlock_create_ruleset, nullptr, 0, LANDLOCK_CREATE_RULESET_VERSION);
  return version < 0 ? 0 : static_cast<int>(version);
}

absl::StatusOr<Landlock> Landlock::Create(Network network) {
  const int version = Version();
  if (version == 0) return Landlock(UniqueFd(), 0);
  const bool isolate = network == Network::kNone;
  RulesetAttributes attributes = {
      .handled_access_fs = HandledBy(version), .handled_access_net = 0, .scoped = 0};
  if (version >= 4 && isolate) attributes.handled_access_net = kBindTcp | kConnectTcp;
  if (version >= 6) attributes.scoped = kScopeSignal | (isolate ? kScopeAbstractUnix : 0);
  UniqueFd ruleset(
      static_cast<int>(syscall(SYS_landlock_create_ruleset, &attributes, sizeof(attributes), 0)));
  if (!ruleset) return ErrnoStatus("landlock_create_ruleset");
  return Landlock(std::move(ruleset), attributes.handled_access_fs);
}

absl::Status Landlock::Allow(const std::string& path, Access access) {
  const UniqueFd fd(open(path.c_str(), O_PATH | O_CLOEXEC));
  if (!fd) return ErrnoStatus(path);
  if (!ruleset_) return absl::OkStatus();
  struct stat status;
  if (fstat(fd.get(), &status) != 0) return ErrnoStatus(path);
  uint64_t rights = RightsOf(access) & handled_;
  if (!S_ISDIR(status.st_mode)) rights &= kOnFile;
  const landlock_path_beneath_attr rule = {.allowed_access = rights, .parent_fd = fd.get()};
  if (syscall(SYS_landlock_add_rule, ruleset_.get(), LANDLOCK_RULE_PATH_BENEATH, &rule, 0) != 0) {
    return ErrnoStatus(absl::StrCat("landlock_add_rule for ", path));
  }
  return absl::OkStatus();
}

absl::Status Landlock::AllowIfPresent(const std::string& path, Access access) {
  const absl::Status status = Allow(path, access);
  return absl::IsNotFound(status) ? absl::OkStatus() : status;
}

absl::Status Landlock::Enforce() {
  if (!ruleset_) return absl::OkStatus();
  if (syscall(SYS_landlock_restrict_self, ruleset_.get(), 0) != 0) {
    return ErrnoStatus("landlock_restrict_self");
  }
  ruleset_.Reset();
  return absl::OkStatus();
}

}  // namespace tlsbroker::sandbox
