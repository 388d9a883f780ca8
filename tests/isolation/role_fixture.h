// SPDX-License-Identifier: Apache-2.0
// Keyholder, handshaker, logger and porter once they are confined, running code of a test's choice:
// so they have what an attacker has who took one over. For tests only.

#ifndef TLSBROKER_TESTS_ISOLATION_ROLE_FIXTURE_H_
#define TLSBROKER_TESTS_ISOLATION_ROLE_FIXTURE_H_

#include <gtest/gtest.h>

#include <cstdio>
#include <functional>
#include <ostream>

#include "broker/sandbox/handshaker_policy.h"
#include "broker/sandbox/keyholder_policy.h"
#include "broker/sandbox/logger_policy.h"
#include "broker/sandbox/porter_policy.h"
#include "tests/isolation/outcome.h"

namespace tlsbroker {

struct Role {
  const char* name;
  absl::Status (*confine)(const supervision::Confinement&);
  friend void PrintTo(const Role& role, std::ostream* out) { *out << role.name; }
};
inline constexpr Role kKeyholder = {"Keyholder", sandbox::ConfineKeyholder};
inline constexpr Role kHandshaker = {"Handshaker", [](const supervision::Confinement& confinement) {
                                       return sandbox::ConfineHandshaker(
                                           confinement, [] { return absl::OkStatus(); });
                                     }};
inline constexpr Role kPorter = {"Porter", sandbox::ConfinePorter};
inline constexpr Role kLogger = {"Logger", sandbox::ConfineLogger};

// Starts a child that takes on the role and then runs `body`.
inline pid_t StartRole(const Role& role, SupervisorIs supervisor,
                       const std::function<int()>& body) {
  return StartChild([&]() -> int {
    if (supervisor == SupervisorIs::kUser && !DropRoot()) return kNotStarted;
    const absl::Status status = role.confine({.change_user = supervisor == SupervisorIs::kRoot,
                                              .uid = kUnprivilegedUser,
                                              .gid = kUnprivilegedUser});
    if (status.ok()) return body();
    std::fprintf(stderr, "%s\n", status.ToString().c_str());
    return kNotStarted;
  });
}

}  // namespace tlsbroker

#endif  // TLSBROKER_TESTS_ISOLATION_ROLE_FIXTURE_H_
