// SPDX-License-Identifier: Apache-2.0
// What the filters of the library, of its tools and of its tests are made with: libseccomp's
// handle, and conditions on arguments.

#ifndef TLSBROKER_CLIENT_LIB_FILTER_H_
#define TLSBROKER_CLIENT_LIB_FILTER_H_

#include <seccomp.h>

#include <cstdint>
#include <memory>

namespace tlsbroker::client {

using Filter = std::unique_ptr<void, decltype(&seccomp_release)>;

// The kernel takes 32 bits of an int and ignores the others, but a filter sees 64: 282 | 1 << 32 is
// SOL_TLS, too.
inline scmp_arg_cmp Masked(unsigned argument, uint32_t mask, int value) {
  return {argument, SCMP_CMP_MASKED_EQ, mask, static_cast<uint32_t>(value)};
}
inline scmp_arg_cmp Is(unsigned argument, int value) { return Masked(argument, 0xffffffff, value); }

}  // namespace tlsbroker::client

#endif  // TLSBROKER_CLIENT_LIB_FILTER_H_
