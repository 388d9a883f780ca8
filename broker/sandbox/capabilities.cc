// SPDX-License-Identifier: Apache-2.0
#include "broker/sandbox/capabilities.h"

#include <linux/securebits.h>
#include <sys/capability.h>
#include <sys/prctl.h>

#include <memory>

#include "broker/support/status.h"

namespace tlsbroker::sandbox {
namespace {

struct CapFree {
  void operator()(void* cap) const { cap_free(cap); }
};
using Capabilities = std::unique_ptr<_cap_struct, CapFree>;

// NO_SETUID_FIXUP stays off, and is locked, so that leaving uid 0 clears the capabilities.
constexpr unsigned long kSecurebits = SECBIT_NOROOT | SECBIT_NOROOT_LOCKED |
                                      SECBIT_NO_SETUID_FIXUP_LOCKED | SECBIT_NO_CAP_AMBIENT_RAISE |
                                      SECBIT_NO_CAP_AMBIENT_RAISE_LOCKED;

}  // namespace

absl::Status ForbidGainingCapabilities(KeepCaps keep_caps) {
  for (cap_value_t cap = 0; cap < cap_max_bits(); ++cap) {
    if (cap_drop_bound(cap) != 0) return ErrnoStatus("drop from the capability bounding set");
  }
  const unsigned long locked = keep_caps == KeepCaps::kLocked ? SECBIT_KEEP_CAPS_LOCKED : 0;
  if (prctl(PR_SET_SECUREBITS, kSecurebits | locked, 0, 0, 0) != 0)
    return ErrnoStatus("set securebits");
  return absl::OkStatus();
}

absl::Status DropCapabilities() {
  if (cap_reset_ambient() != 0) return ErrnoStatus("clear ambient capabilities");
  const Capabilities none(cap_init());
  if (none == nullptr) return ErrnoStatus("cap_init");
  if (cap_set_proc(none.get()) != 0) return ErrnoStatus("clear capabilities");
  const Capabilities left(cap_get_proc());
  if (left == nullptr) return ErrnoStatus("read capabilities back");
  if (cap_compare(left.get(), none.get()) != 0)
    return absl::InternalError("some capabilities could not be given up");
  return absl::OkStatus();
}

bool HasCapability(int capability) {
  const Capabilities mine(cap_get_proc());
  cap_flag_value_t value = CAP_CLEAR;
  if (mine != nullptr) cap_get_flag(mine.get(), capability, CAP_EFFECTIVE, &value);
  return value == CAP_SET;
}

absl::StatusOr<bool> AllCapabilitySetsEmpty() {
  const Capabilities none(cap_init());
  const Capabilities mine(cap_get_proc());
  if (none == nullptr || mine == nullptr) return ErrnoStatus("read capabilities");
  if (cap_compare(mine.get(), none.get()) != 0) return false;
  for (cap_value_t cap = 0; cap < cap_max_bits(); ++cap) {
    if (cap_get_bound(cap) == 1 || cap_get_ambient(cap) == 1) return false;
  }
  return true;
}

absl::Status SetNoNewPrivileges() {
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) return ErrnoStatus("set no_new_privs");
  return absl::OkStatus();
}

}  // namespace tlsbroker::sandbox
