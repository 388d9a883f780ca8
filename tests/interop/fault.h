// SPDX-License-Identifier: Apache-2.0
// Makes a system call on the kTLS options fail, in one thread: there is no other way to have a
// kernel that refuses the second direction. For tests only.

#ifndef TLSBROKER_TESTS_INTEROP_FAULT_H_
#define TLSBROKER_TESTS_INTEROP_FAULT_H_

#include <linux/tls.h>
#include <seccomp.h>

#include <functional>
#include <thread>

namespace tlsbroker {

struct Fault {
  int system_call;  // SCMP_SYS(setsockopt) or SCMP_SYS(getsockopt)
  int option;       // TLS_TX or TLS_RX
  int error;
};

// Runs `work` in a thread that ends with it, because a seccomp filter holds for the thread that
// loads it, and for ever. False if the filter could not be loaded; then `work` was not run.
inline bool WithFault(const Fault& fault, const std::function<void()>& work) {
  constexpr uint64_t kSolTls = 282;
  bool loaded = false;
  std::thread([&] {
    scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ALLOW);
    loaded = filter != nullptr &&
             seccomp_rule_add(filter, SCMP_ACT_ERRNO(static_cast<unsigned>(fault.error)),
                              fault.system_call, 2, SCMP_A1(SCMP_CMP_EQ, kSolTls),
                              SCMP_A2(SCMP_CMP_EQ, static_cast<uint64_t>(fault.option))) == 0 &&
             seccomp_load(filter) == 0;
    seccomp_release(filter);
    if (loaded) work();
  }).join();
  return loaded;
}

}  // namespace tlsbroker

#endif  // TLSBROKER_TESTS_INTEROP_FAULT_H_
