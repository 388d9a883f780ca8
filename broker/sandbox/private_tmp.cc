// SPDX-License-Identifier: Apache-2.0
#include "broker/sandbox/private_tmp.h"

#include <fcntl.h>
#include <limits.h>
#include <linux/mount.h>
#include <linux/openat2.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <deque>
#include <iterator>
#include <map>
#include <string_view>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "broker/support/status.h"
#include "protocol/unique_fd.h"

namespace tlsbroker::sandbox {
namespace {

// The new directories are built here, over a directory that always exists, and then moved.
constexpr char kBuilding[] = "/usr";
constexpr int kMostLinks = 40;  // MAXSYMLINKS in the kernel

bool IsBelow(std::string_view path, std::string_view directory) {
  return path.size() > directory.size() && path.starts_with(directory) &&
         path[directory.size()] == '/';
}

bool IsTemporary(std::string_view path) {
  return IsBelow(path, kSharedMemory) ||
         std::ranges::any_of(kTemporary, [&](const char* each) { return IsBelow(path, each); });
}

std::string Built(const std::string& path) { return kBuilding + path; }

// What has to be there for the paths that stay. A map, so that what is above comes before.
struct Entry {
  struct stat status {};
  std::string link;    // what a symbolic link says
  bool stays = false;  // it is one of the paths
  bool writable = false;
};
using Entries = std::map<std::string, Entry>;

// Follows the path as the kernel does, and notes what it meets below the temporary directories. A
// path that does not exist is no error here: Landlock::Allow() names it.
absl::Status Note(const std::string& path, bool writable, Entries& entries) {
  std::deque<std::string> left = absl::StrSplit(path, '/', absl::SkipEmpty());
  std::string at;
  for (int links = 0; !left.empty();) {
    const std::string name = left.front();
    left.pop_front();
    if (name == ".") continue;
    if (name == "..") {
      at.resize(at.empty() ? 0 : at.rfind('/'));
      continue;
    }
    const std::string next = at + "/" + name;
    Entry entry;
    if (lstat(next.c_str(), &entry.status) != 0) return absl::OkStatus();
    if (S_ISLNK(entry.status.st_mode)) {
      std::array<char, PATH_MAX> text;
      const ssize_t size = readlink(next.c_str(), text.data(), text.size());
      if (size <= 0) return ErrnoStatus(next);
      if (++links > kMostLinks) return absl::InvalidArgumentError(path + ": a loop of links");
      entry.link.assign(text.data(), static_cast<size_t>(size));
      const std::deque<std::string> parts = absl::StrSplit(entry.link, '/', absl::SkipEmpty());
      left.insert(left.begin(), parts.begin(), parts.end());
      if (entry.link.starts_with('/')) at.clear();
    } else {
      at = next;
      entry.stays = left.empty();
      entry.writable = entry.stays && writable;
    }
    if (!IsTemporary(next)) continue;
    Entry& noted = entries.try_emplace(next, entry).first->second;
    noted.stays |= entry.stays;
    noted.writable |= entry.writable;
  }
  return absl::OkStatus();
}

// Devices could be written on a file system that cannot.
bool MakeReadOnly(const std::string& path) {
  mount_attr attributes{};
  attributes.attr_set = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NODEV;
  return syscall(SYS_mount_setattr, AT_FDCWD, path.c_str(), AT_RECURSIVE, &attributes,
                 sizeof(attributes)) == 0;
}

// `from` has no symbolic link in it. Somebody else may write to a directory on the way and put one
// there, now that the path was looked at, to have another directory mounted by root.
absl::Status Bind(const std::string& from, const std::string& to, bool writable) {
  open_how how{};
  how.flags = O_PATH | O_CLOEXEC;
  how.resolve = RESOLVE_NO_SYMLINKS;
  const UniqueFd source(
      static_cast<int>(syscall(SYS_openat2, AT_FDCWD, from.c_str(), &how, sizeof(how))));
  if (!source) return ErrnoStatus("keep " + from);
  const std::string name = absl::StrCat("/proc/self/fd/", source.get());
  if (mount(name.c_str(), to.c_str(), nullptr, MS_BIND | MS_REC, nullptr) != 0)
    return ErrnoStatus("keep " + from);
  if (writable || MakeReadOnly(to)) return absl::OkStatus();
  return ErrnoStatus("keep " + from + " from being written (mount_setattr, Linux 5.12)");
}

// An empty place of the same kind.
absl::Status MakePlace(const std::string& path, const Entry& entry) {
  const std::string built = Built(path);
  if (!entry.link.empty()) {
    if (symlink(entry.link.c_str(), built.c_str()) != 0) return ErrnoStatus(path);
  } else if (S_ISDIR(entry.status.st_mode)) {
    if (mkdir(built.c_str(), 0700) != 0) return ErrnoStatus(path);
  } else {
    const UniqueFd file(open(built.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
    if (!file) return ErrnoStatus(path);
  }
  return absl::OkStatus();
}

// Who was not let through a directory is not let through its copy, which is ours: the supervisor
// may not be able to give it away.
absl::Status LimitAccess(const std::string& path, const struct stat& status,
                         const PrivateTmp& wanted) {
  const mode_t group = status.st_gid == wanted.gid ? status.st_mode >> 3 : status.st_mode;
  const mode_t mine = status.st_uid == wanted.uid ? status.st_mode >> 6 : group;
  if (chmod(Built(path).c_str(), 0700 | (mine & 5) * 011) != 0) return ErrnoStatus(path);
  return absl::OkStatus();
}

absl::Status MakeEntries(const Entries& entries, const PrivateTmp& wanted) {
  std::map<std::string, bool> bound;  // and whether it can be written
  for (const auto& [path, entry] : entries) {
    const auto above = std::ranges::find_if(
        bound, [&path = path](const auto& each) { return IsBelow(path, each.first); });
    const bool is_there = above != bound.end();
    if (is_there && (!entry.writable || above->second)) continue;
    if (!is_there) RETURN_IF_ERROR(MakePlace(path, entry));
    if (entry.stays) {
      RETURN_IF_ERROR(Bind(path, Built(path), entry.writable));
      if (!is_there) bound[path] = entry.writable;
    } else if (entry.link.empty()) {
      RETURN_IF_ERROR(LimitAccess(path, entry.status, wanted));
    }
  }
  return absl::OkStatus();
}

// Not a symbolic link: what it leads to is another directory, and perhaps one of the others.
bool Exists(const std::string& directory) {
  struct stat status;
  return lstat(directory.c_str(), &status) == 0 && S_ISDIR(status.st_mode);
}

absl::Status MakeDirectory(const std::string& path, mode_t mode) {
  if (mkdir(path.c_str(), 0700) != 0 || chmod(path.c_str(), mode) != 0) return ErrnoStatus(path);
  return absl::OkStatus();
}

bool IsSharedMemory(std::string_view path) {
  return path.substr(0, path.find_last_not_of('/') + 1) == kSharedMemory;
}

}  // namespace

std::vector<std::string> Replaced(const PrivateTmp& wanted) {
  std::vector<std::string> directories(std::begin(kTemporary), std::end(kTemporary));
  if (std::ranges::none_of(wanted.read_only, IsSharedMemory) &&
      std::ranges::none_of(wanted.read_write, IsSharedMemory)) {
    directories.emplace_back(kSharedMemory);
  }
  std::erase_if(directories, [](const std::string& each) { return !Exists(each); });
  return directories;
}

absl::Status MountPrivateTmp(const PrivateTmp& wanted) {
  Entries entries;
  for (const std::string& path : wanted.read_only) RETURN_IF_ERROR(Note(path, false, entries));
  for (const std::string& path : wanted.read_write) RETURN_IF_ERROR(Note(path, true, entries));
  const std::string options = absl::StrCat("mode=0755,nr_inodes=100k,size=",
                                           wanted.size ? absl::StrCat(*wanted.size) : "10%");
  if (mount("tmpfs", kBuilding, "tmpfs", MS_NOSUID | MS_NODEV, options.c_str()) != 0)
    return ErrnoStatus("mount a /tmp of its own");
  RETURN_IF_ERROR(MakeDirectory(Built("/tmp"), 01777));
  RETURN_IF_ERROR(MakeDirectory(Built("/var"), 0755));
  RETURN_IF_ERROR(MakeDirectory(Built("/var/tmp"), 01777));
  RETURN_IF_ERROR(MakeDirectory(Built("/dev"), 0755));
  RETURN_IF_ERROR(MakeDirectory(Built("/dev/shm"), 01777));
  RETURN_IF_ERROR(MakeEntries(entries, wanted));
  for (const std::string& directory : Replaced(wanted)) {
    if (mount(Built(directory).c_str(), directory.c_str(), nullptr, MS_BIND | MS_REC, nullptr) != 0)
      return ErrnoStatus(absl::StrCat("mount a ", directory, " of its own"));
  }
  if (umount2(kBuilding, MNT_DETACH) != 0) return ErrnoStatus("unmount what was built");
  return absl::OkStatus();
}

}  // namespace tlsbroker::sandbox
