// SPDX-License-Identifier: Apache-2.0
// A seccomp filter, row by row: a system call and what its arguments have to be for the row to
// hold. Runs in each process of the broker while it is confined. Foreign system call tables (int
// 0x80, x32) are killed in every filter.

#ifndef TLSBROKER_BROKER_SANDBOX_SECCOMP_FILTER_H_
#define TLSBROKER_BROKER_SANDBOX_SECCOMP_FILTER_H_

#include <seccomp.h>

#include <cerrno>
#include <cstdint>
#include <initializer_list>
#include <span>

#include "absl/status/status.h"

namespace tlsbroker::sandbox {

// One condition on an argument. The kernel takes 32 bits of an int and ignores the others, but the
// filter sees 64: a plain comparison with 282 does not match 282 | 1 << 32, and the kernel would
// serve that call. So there is no plain comparison here.
inline scmp_arg_cmp Is(unsigned argument, int value) {
  return {argument, SCMP_CMP_MASKED_EQ, 0xffffffff, static_cast<uint32_t>(value)};
}
inline scmp_arg_cmp Masked(unsigned argument, uint64_t mask, uint64_t value) {
  return {argument, SCMP_CMP_MASKED_EQ, mask, value};
}
inline scmp_arg_cmp Has(unsigned argument, uint64_t bits) { return Masked(argument, bits, bits); }
inline scmp_arg_cmp HasNot(unsigned argument, uint64_t bits) { return Masked(argument, bits, 0); }

// The first error is kept and returned by Load, so that a policy reads as a table.
class SeccompFilter {
 public:
  using Conditions = std::initializer_list<scmp_arg_cmp>;

  // Everything that is not allowed kills the process.
  static SeccompFilter AllowList() { return SeccompFilter(SCMP_ACT_KILL_PROCESS); }
  // Everything that is not allowed is refused with EPERM.
  static SeccompFilter RefuseList() { return SeccompFilter(SCMP_ACT_ERRNO(EPERM)); }
  // Everything that is not denied is allowed.
  static SeccompFilter DenyList() { return SeccompFilter(SCMP_ACT_ALLOW); }

  SeccompFilter(SeccompFilter&& other) noexcept;
  SeccompFilter& operator=(SeccompFilter&&) = delete;
  ~SeccompFilter();

  // Rows for one system call are alternatives; the conditions of a row hold together.
  SeccompFilter& Allow(int call, Conditions conditions = {});
  SeccompFilter& AllowAll(std::span<const int> calls);
  SeccompFilter& Deny(int error, int call, Conditions conditions = {});
  SeccompFilter& DenyAll(int error, std::span<const int> calls);
  // Denies the call unless the int argument is one of `values`, each below 64.
  SeccompFilter& DenyUnless(int error, int call, unsigned argument,
                            std::initializer_list<uint32_t> values);

  // Puts the filter on the calling thread. Needs no_new_privs.
  absl::Status Load();

 private:
  explicit SeccompFilter(uint32_t default_action);
  void Add(uint32_t action, int call, Conditions conditions);
  // libseccomp returns negated error numbers.
  void Keep(int result);

  scmp_filter_ctx context_;
  int error_ = 0;
};

}  // namespace tlsbroker::sandbox

#endif  // TLSBROKER_BROKER_SANDBOX_SECCOMP_FILTER_H_
