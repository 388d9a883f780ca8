// SPDX-License-Identifier: Apache-2.0
// <sys/pidfd.h>, which in glibc 2.36 forgets that C++ programs include it. Runs in the supervisor.

#ifndef TLSBROKER_BROKER_SUPERVISOR_PIDFD_H_
#define TLSBROKER_BROKER_SUPERVISOR_PIDFD_H_

extern "C" {
#include <sys/pidfd.h>
}

#endif  // TLSBROKER_BROKER_SUPERVISOR_PIDFD_H_
