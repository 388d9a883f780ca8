// SPDX-License-Identifier: Apache-2.0
// A deliberately misbehaving program: `attacker NAME [ARGUMENT...]` tries one thing and exits with
// 0 if the kernel allowed it, else with the error number. The tests run it with and without
// confinement.

#ifndef TLSBROKER_TESTS_ISOLATION_TESTCASES_ATTACKS_H_
#define TLSBROKER_TESTS_ISOLATION_TESTCASES_ATTACKS_H_

#include <cerrno>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace tlsbroker::attacks {

using Arguments = std::vector<std::string>;

struct Attack {
  const char* name;
  int (*run)(const Arguments& arguments);
};

std::span<const Attack> KeyAttacks();
std::span<const Attack> UringAttacks();
std::span<const Attack> ProcessAttacks();
std::span<const Attack> KernelAttacks();
std::span<const Attack> FileAttacks();
std::span<const Attack> NetworkAttacks();
std::span<const Attack> QueueAttacks();

// The number of the descriptor of the connection that was handed to the attacker.
inline constexpr int kConnectionFd = 3;

inline int ErrorOf(long result) { return result < 0 ? errno : 0; }
// Whole 64-bit registers, as an attacker would fill them; decimal or 0x, also negative.
inline uint64_t Register(const std::string& text) { return std::stoull(text, nullptr, 0); }

}  // namespace tlsbroker::attacks

#endif  // TLSBROKER_TESTS_ISOLATION_TESTCASES_ATTACKS_H_
