// SPDX-License-Identifier: Apache-2.0
#include "broker/supervisor/socket_name.h"

#include <sys/acl.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "broker/support/log.h"
#include "broker/support/status.h"

namespace tlsbroker::supervisor {
namespace {

constexpr mode_t kOwner = 0600;
constexpr mode_t kEverybody = 0666;

// With this option switched off (from Linux 6.16 on) strangers cannot send descriptors: they get
// EPERM. Connections inherit the option from their listening socket.
constexpr int kSoPassRights = 83;

using AclList = std::unique_ptr<std::remove_pointer_t<acl_t>, int (*)(void*)>;

// `id` for ACL_USER and ACL_GROUP. Connecting takes the permission to write.
bool AddEntry(AclList& list, acl_tag_t tag, bool allowed, const id_t* id = nullptr) {
  acl_t changed = list.release();  // it may be moved
  acl_entry_t entry;
  acl_permset_t permissions;
  bool good = acl_create_entry(&changed, &entry) == 0 && acl_set_tag_type(entry, tag) == 0 &&
              acl_get_permset(entry, &permissions) == 0;
  list.reset(changed);
  if (good && id != nullptr) good = acl_set_qualifier(entry, id) == 0;
  if (good && allowed)
    good = acl_add_perm(permissions, ACL_READ) == 0 && acl_add_perm(permissions, ACL_WRITE) == 0;
  return good;
}

// One entry for each: the kernel refuses a list that names somebody twice.
template <typename Id>
bool AddAll(AclList& list, acl_tag_t tag, std::vector<Id> ids) {
  std::ranges::sort(ids);
  ids.erase(std::unique(ids.begin(), ids.end()), ids.end());
  return std::ranges::all_of(ids,
                             [&list, tag](const Id& id) { return AddEntry(list, tag, true, &id); });
}

// Needed even if nobody else may connect: a default list of the directory may have put others in.
absl::Status SetList(const std::string& path, const Access& access) {
  AclList list(acl_init(static_cast<int>(access.users.size() + access.groups.size() + 4)),
               acl_free);
  if (!list) return ErrnoStatus("acl_init");
  bool good = AddEntry(list, ACL_USER_OBJ, true) && AddEntry(list, ACL_GROUP_OBJ, false) &&
              AddEntry(list, ACL_OTHER, false);
  if (!access.empty()) {
    good = good && AddEntry(list, ACL_MASK, true) && AddAll(list, ACL_USER, access.users) &&
           AddAll(list, ACL_GROUP, access.groups);
  }
  if (!good || acl_set_file(path.c_str(), ACL_TYPE_ACCESS, list.get()) != 0)
    return ErrnoStatus("an access control list");
  return absl::OkStatus();
}

// The name that the socket has, in the same directory, until it has its permissions. Never longer
// than the final name, so that it fits if that does, and a different one each time.
std::string TemporaryName(const std::string& path) {
  static unsigned count = 0;
  return path.substr(0, path.rfind('/') + 1) + "." + std::to_string(count++ % 1000);
}

absl::StatusOr<sockaddr_un> AddressOf(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof(address.sun_path)) {
    return absl::InvalidArgumentError(absl::StrCat(
        path, ": longer than the ", sizeof(address.sun_path) - 1, " bytes of a socket's name"));
  }
  std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
  return address;
}

}  // namespace

absl::StatusOr<UniqueFd> SocketName::Bind() {
  const std::string temporary = TemporaryName(path_);
  const auto name = AddressOf(path_);  // must fit for those who connect
  if (!name.ok()) return name.status();
  ASSIGN_OR_RETURN(const sockaddr_un address, AddressOf(temporary));
  UniqueFd socket(::socket(AF_UNIX, type_ | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!socket) return ErrnoStatus("socket");
  const int no = 0;
  (void)setsockopt(socket.get(), SOL_SOCKET, kSoPassRights, &no, sizeof(no));
  (void)unlink(temporary.c_str());
  // A name gets the mode of the socket, less what umask(2) takes away.
  if (fchmod(socket.get(), kOwner) != 0) return ErrnoStatus(path_);
  const mode_t usual = umask(0);
  const int bound =
      bind(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address));
  umask(usual);
  if (bound != 0) return ErrnoStatus(path_);
  struct stat status;
  absl::Status allowed = Allow(temporary);
  if (allowed.ok() &&
      (lstat(temporary.c_str(), &status) != 0 || rename(temporary.c_str(), path_.c_str()) != 0)) {
    allowed = ErrnoStatus(path_);
  }
  if (!allowed.ok()) {
    (void)unlink(temporary.c_str());
    return allowed;
  }
  bound_ = true;
  device_ = status.st_dev;
  inode_ = status.st_ino;
  return socket;
}

// If the file system has no lists, or a list has too many entries for it, the only way is to let
// everybody connect.
absl::Status SocketName::Allow(const std::string& path) const {
  absl::Status listed = SetList(path, access_);
  if (listed.ok()) return listed;
  const mode_t mode = access_.empty() ? kOwner : kEverybody;
  if (chmod(path.c_str(), mode) != 0) return ErrnoStatus(path_);
  if (!access_.empty()) {
    log::Warning(path_ + " cannot have " + std::string(listed.message()) +
                 ": every user may connect, and who is not allowed is refused then");
  }
  return absl::OkStatus();
}

void SocketName::Change(Access access) {
  if (access_ == access) return;
  access_ = std::move(access);
  if (!IsOurs()) return;
  if (const absl::Status allowed = Allow(path_); !allowed.ok())
    log::Error(std::string(allowed.message()));
}

bool SocketName::IsOurs() const {
  struct stat status;
  return bound_ && lstat(path_.c_str(), &status) == 0 && status.st_dev == device_ &&
         status.st_ino == inode_;
}

bool SocketName::missing() const {
  struct stat status;
  return bound_ && lstat(path_.c_str(), &status) != 0 && errno == ENOENT;
}

void SocketName::Remove() {
  if (IsOurs()) (void)unlink(path_.c_str());
  bound_ = false;
}

}  // namespace tlsbroker::supervisor
