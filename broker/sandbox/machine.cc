// SPDX-License-Identifier: Apache-2.0
#include "broker/sandbox/machine.h"

#include <sys/capability.h>
#include <unistd.h>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "broker/sandbox/landlock.h"
#include "broker/support/log.h"

namespace tlsbroker::sandbox {
namespace {

bool HasCapability(cap_value_t capability) {
  const cap_t mine = cap_get_proc();
  cap_flag_value_t value = CAP_CLEAR;
  if (mine != nullptr) cap_get_flag(mine, capability, CAP_EFFECTIVE, &value);
  cap_free(mine);
  return value == CAP_SET;
}

}  // namespace

Machine Machine::Inspect() {
  return {
      .root = geteuid() == 0,
      .namespaces = HasCapability(CAP_SYS_ADMIN),
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
