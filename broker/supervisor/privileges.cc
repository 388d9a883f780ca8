// SPDX-License-Identifier: Apache-2.0
#include "broker/supervisor/privileges.h"

#include <fcntl.h>
#include <sys/capability.h>
#include <sys/prctl.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <memory>

#include "broker/supervisor/accounts.h"
#include "broker/support/status.h"
#include "protocol/unique_fd.h"

namespace tlsbroker::supervisor {
namespace {

constexpr std::array kKept = {
    CAP_DAC_OVERRIDE,
    CAP_DAC_READ_SEARCH,   // key files, the runtime directory
    CAP_CHOWN,             // sockets in the runtime directory
    CAP_NET_BIND_SERVICE,  // ports below 1024
    CAP_NET_ADMIN,         // queues beyond net.core.wmem_max; loading the tls module
    CAP_KILL,              // workers run as other users
    CAP_SETUID,
    CAP_SETGID,
    CAP_SETPCAP,  // children become their user and give up the rest
    CAP_SYS_ADMIN,
    CAP_SYS_CHROOT,    // their namespaces and empty roots
    CAP_IPC_LOCK,      // the keyholder's locked memory
    CAP_SYS_RESOURCE,  // limits, also that of descriptors in flight
};

bool IsKept(cap_value_t capability) { return std::ranges::find(kKept, capability) != kKept.end(); }

using CapabilitySet = std::unique_ptr<std::remove_pointer_t<cap_t>, int (*)(void*)>;

absl::Status SetOwnCapabilities() {
  // Only what is there already can be kept: a container may have taken some away.
  const CapabilitySet set(cap_get_proc(), cap_free);
  if (!set) return ErrnoStatus("cap_get_proc");
  for (cap_value_t capability = 0; capability < cap_max_bits(); ++capability) {
    if (IsKept(capability)) continue;
    for (const cap_flag_t flag : {CAP_EFFECTIVE, CAP_PERMITTED, CAP_INHERITABLE}) {
      if (cap_set_flag(set.get(), flag, 1, &capability, CAP_CLEAR) != 0)
        return ErrnoStatus("cap_set_flag");
    }
  }
  if (cap_set_proc(set.get()) != 0) return ErrnoStatus("cap_set_proc");
  return absl::OkStatus();
}

// The bounding set is what root gets at exec, so it decides what children start with.
absl::Status LimitChildren() {
  for (cap_value_t capability = 0; capability < cap_max_bits(); ++capability) {
    if (IsKept(capability) || cap_get_bound(capability) != 1) continue;
    if (cap_drop_bound(capability) != 0) return ErrnoStatus("cap_drop_bound");
  }
  return absl::OkStatus();
}

}  // namespace

bool CanReadWithoutPower(const std::string& path) {
  constexpr std::array kPower = {CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH};
  const CapabilitySet all(cap_get_proc(), cap_free);
  const CapabilitySet less(all ? cap_dup(all.get()) : nullptr, cap_free);
  if (!less ||
      cap_set_flag(less.get(), CAP_EFFECTIVE, kPower.size(), kPower.data(), CAP_CLEAR) != 0)
    return true;
  if (cap_set_proc(less.get()) != 0) return true;
  const UniqueFd file(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK));
  const bool refused = !file && errno == EACCES;
  (void)cap_set_proc(all.get());
  return !refused;
}

absl::Status ReducePrivileges() {
  if (prctl(PR_SET_DUMPABLE, 0) != 0) return ErrnoStatus("PR_SET_DUMPABLE");
  if (!RunsAsRoot()) return absl::OkStatus();
  RETURN_IF_ERROR(LimitChildren());
  return SetOwnCapabilities();
}

}  // namespace tlsbroker::supervisor
