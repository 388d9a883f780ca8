// SPDX-License-Identifier: Apache-2.0
// What keyholders, handshakers, porters and loggers all give up; their policy files add the filter.
// Runs in each of them before it serves.

#ifndef TLSBROKER_BROKER_SANDBOX_BROKER_PROCESS_H_
#define TLSBROKER_BROKER_SANDBOX_BROKER_PROCESS_H_

#include <string_view>

#include "absl/status/status.h"
#include "broker/sandbox/machine.h"
#include "broker/sandbox/seccomp_filter.h"
#include "protocol/role_messages.h"

namespace tlsbroker::sandbox {

// Takes and gives up, in this order, and reads back: own namespaces (CLONE_NEW* in `namespaces`),
// empty root, own user, no capabilities, no_new_privs, no dumps, no children, no file by Landlock.
absl::Status GiveUpPrivileges(const supervision::Confinement& confinement, int namespaces,
                              std::string_view role);

// The parts of GiveUpPrivileges() that this machine cannot give.
MissingParts MissingInBrokerProcess(const Machine& machine);

// Allows what any C++ program does that computes and logs: memory (never executable), signals of
// its own, time, random numbers, exit.
void AllowComputing(SeccompFilter& filter);

}  // namespace tlsbroker::sandbox

#endif  // TLSBROKER_BROKER_SANDBOX_BROKER_PROCESS_H_
