// SPDX-License-Identifier: Apache-2.0
// What a worker does with libtlsbroker, a call or two at a time, each with the rows of the table in
// client-lib/README.md that must be enough for it.

#ifndef TLSBROKER_TESTS_UNIT_CLIENT_OPERATIONS_H_
#define TLSBROKER_TESTS_UNIT_CLIENT_OPERATIONS_H_

#include <string>
#include <vector>

#include "tests/unit/under_filter.h"

namespace tlsbroker {

// Names of rows that belong to no function.
inline constexpr char kKeys[] = "keys that change, within the functions that read and write";
inline constexpr char kAttached[] = "a queue that attached itself, when connections are taken";
inline constexpr char kMemory[] = "malloc(3), within any of them";
inline constexpr char kThreadsMemory[] = "malloc(3) in threads, once or twice in a process";
inline constexpr char kWaiting[] = "locks, time and stops, within any of them";
inline constexpr char kEnd[] = "the end of the process";

// In `directory` they make their sockets.
std::vector<Operation> QueueOperations(const std::string& directory);
// Operations on the stream of a relay or bridge.
std::vector<Operation> StreamOperations();
// Operations of the C library, which all functions need.
std::vector<Operation> RuntimeOperations();
// Shows whether reading the clock is a system call on this machine: not all machines have it in the
// vDSO.
Operation ClockOperation();
// Operations on a socket with kernel TLS.
std::vector<Operation> DirectOperations();

}  // namespace tlsbroker

#endif  // TLSBROKER_TESTS_UNIT_CLIENT_OPERATIONS_H_
