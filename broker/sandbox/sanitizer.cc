#include "broker/sandbox/sanitizer.h"

#include <sys/ioctl.h>

#include <cerrno>

#if defined(__SANITIZE_ADDRESS__)

namespace {
bool g_confined = false;
}  // namespace

// Leaks are looked for at exit, by a thread that traces all others. In a confined process that is
// impossible; where it is not confined it stays on. (sanitizer/lsan_interface.h)
extern "C" __attribute__((visibility("default"))) int __lsan_is_turned_off() { return g_confined; }

namespace tlsbroker::sandbox {

void AllowSanitizer(SeccompFilter& filter) {
  g_confined = true;
  // Names of binaries and the kind of the terminal: answered with a refusal instead of death, so
  // that the report comes out, with bare addresses.
  filter.Deny(EACCES, SCMP_SYS(open))
      .Deny(EACCES, SCMP_SYS(openat))
      .Deny(ENOTTY, SCMP_SYS(ioctl), {Is(1, TCGETS)});
}

}  // namespace tlsbroker::sandbox

#else

namespace tlsbroker::sandbox {

void AllowSanitizer(SeccompFilter&) {}

}  // namespace tlsbroker::sandbox

#endif
