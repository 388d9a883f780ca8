// SPDX-License-Identifier: Apache-2.0
// What this machine lets a process give up. The only reasons for which a part of the confinement is
// left out are here; there is no switch. Runs in every process of the broker before it is confined.

#ifndef TLSBROKER_BROKER_SANDBOX_MACHINE_H_
#define TLSBROKER_BROKER_SANDBOX_MACHINE_H_

#include <string>
#include <string_view>
#include <vector>

namespace tlsbroker::sandbox {

struct Machine {
  bool root = false;  // may become another user
  bool namespaces =
      false;  // has CAP_SYS_ADMIN and unshare(2), which containers often keep from root
  // Its root directory is a mount point, as everywhere but in a plain chroot(2): a mount that is
  // made below another one's mount point would be seen outside, if that one is shared.
  bool mounts = false;
  int landlock_version = 0;  // 0: this kernel has none

  static Machine Inspect();
};

// Names of parts that are left out; one warning names them all.
class MissingParts {
 public:
  void Add(std::string_view part) { parts_.emplace_back(part); }
  // `who` is what was confined: "keyholder", "worker /usr/libexec/w".
  void Log(std::string_view who) const;
  const std::vector<std::string>& parts() const { return parts_; }

 private:
  std::vector<std::string> parts_;
};

}  // namespace tlsbroker::sandbox

#endif  // TLSBROKER_BROKER_SANDBOX_MACHINE_H_
