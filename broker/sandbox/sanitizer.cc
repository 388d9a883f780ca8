// SPDX-License-Identifier: Apache-2.0
#include "broker/sandbox/sanitizer.h"

#include <sys/ioctl.h>

#include <cerrno>

#if defined(__SANITIZE_ADDRESS__)

namespace {
bool g_confined = false;
}  // namespace

// LeakSanitizer looks for leaks at exit, with a thread that traces all others. A confined process
// cannot do that; elsewhere it stays on. (sanitizer/lsan_interface.h)
extern "C" __attribute__((visibility("default"))) int __lsan_is_turned_off() { return g_confined; }

namespace tlsbroker::sandbox {

void AllowSanitizer(SeccompFilter& filter) {
  g_confined = true;
  // The run-time uses a pipe to learn whether memory can be read: UndefinedBehaviorSanitizer does
  // that with objects, all the time. Without this row some roles may write to a few descriptors
  // only.
  filter.Allow(SCMP_SYS(pipe))
      .Allow(SCMP_SYS(pipe2))
      .Allow(SCMP_SYS(write))
      // It asks for the names of binaries and the kind of the terminal. These calls are refused
      // instead of killing the process, so that the report comes out, with bare addresses.
      .Deny(EACCES, SCMP_SYS(open))
      .Deny(EACCES, SCMP_SYS(openat))
      .Deny(EACCES, SCMP_SYS(readlink))
      .Deny(ENOTTY, SCMP_SYS(ioctl), {Is(1, TCGETS)});
}

}  // namespace tlsbroker::sandbox

#else

namespace tlsbroker::sandbox {

void AllowSanitizer(SeccompFilter&) {}

}  // namespace tlsbroker::sandbox

#endif
