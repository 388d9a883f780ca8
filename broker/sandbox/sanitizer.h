// SPDX-License-Identifier: Apache-2.0
// The system calls that AddressSanitizer's run-time needs besides a program's own, to describe an
// error before it ends the process. Empty in builds without -Db_sanitize=address; it never lets a
// process do more than look at itself.

#ifndef TLSBROKER_BROKER_SANDBOX_SANITIZER_H_
#define TLSBROKER_BROKER_SANDBOX_SANITIZER_H_

#include "broker/sandbox/seccomp_filter.h"

namespace tlsbroker::sandbox {

void AllowSanitizer(SeccompFilter& filter);

}  // namespace tlsbroker::sandbox

#endif  // TLSBROKER_BROKER_SANDBOX_SANITIZER_H_
