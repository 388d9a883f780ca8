// SPDX-License-Identifier: Apache-2.0
#include "broker/sandbox/seccomp_filter.h"

#include <algorithm>
#include <cerrno>
#include <utility>

namespace tlsbroker::sandbox {

SeccompFilter::SeccompFilter(uint32_t default_action) : context_(seccomp_init(default_action)) {
  if (context_ == nullptr) {
    error_ = ENOMEM;
    return;
  }
  Keep(seccomp_attr_set(context_, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS));
  // no_new_privs is set, and verified, by the caller.
  Keep(seccomp_attr_set(context_, SCMP_FLTATR_CTL_NNP, 0));
  // A binary tree instead of a list: the last row costs as much as the first.
  Keep(seccomp_attr_set(context_, SCMP_FLTATR_CTL_OPTIMIZE, 2));
}

SeccompFilter::SeccompFilter(SeccompFilter&& other) noexcept
    : context_(std::exchange(other.context_, nullptr)), error_(other.error_) {}

SeccompFilter::~SeccompFilter() {
  if (context_ != nullptr) seccomp_release(context_);
}

void SeccompFilter::Keep(int result) {
  if (result < 0 && error_ == 0) error_ = -result;
}

void SeccompFilter::Add(uint32_t action, int call, Conditions conditions) {
  if (error_ != 0) return;
  Keep(seccomp_rule_add_array(context_, action, call, static_cast<unsigned>(conditions.size()),
                              conditions.begin()));
}

SeccompFilter& SeccompFilter::Allow(int call, Conditions conditions) {
  Add(SCMP_ACT_ALLOW, call, conditions);
  return *this;
}

SeccompFilter& SeccompFilter::AllowAll(std::span<const int> calls) {
  for (const int call : calls) Allow(call);
  return *this;
}

SeccompFilter& SeccompFilter::Deny(int error, int call, Conditions conditions) {
  Add(SCMP_ACT_ERRNO(static_cast<uint32_t>(error)), call, conditions);
  return *this;
}

SeccompFilter& SeccompFilter::DenyAll(int error, std::span<const int> calls) {
  for (const int call : calls) Deny(error, call);
  return *this;
}

// seccomp has no "masked and not equal", so this denies any bit from 6 up, and any other value of
// the low six.
SeccompFilter& SeccompFilter::DenyUnless(int error, int call, unsigned argument,
                                         std::initializer_list<uint32_t> values) {
  for (unsigned bit = 6; bit < 32; ++bit) Deny(error, call, {Has(argument, 1U << bit)});
  for (uint32_t value = 0; value < 64; ++value) {
    if (std::find(values.begin(), values.end(), value) != values.end()) continue;
    Deny(error, call, {Is(argument, static_cast<int>(value))});
  }
  return *this;
}

absl::Status SeccompFilter::Load() {
  if (error_ == 0) Keep(seccomp_load(context_));
  if (error_ != 0) return absl::ErrnoToStatus(error_, "seccomp filter");
  return absl::OkStatus();
}

}  // namespace tlsbroker::sandbox
