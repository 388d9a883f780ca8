// What keyholder and handshakers give up alike; their policy files add the filter. Runs in either
// before it serves.

#ifndef TLSBROKER_BROKER_SANDBOX_BROKER_PROCESS_H_
#define TLSBROKER_BROKER_SANDBOX_BROKER_PROCESS_H_

#include <string_view>

#include "absl/status/status.h"
#include "broker/sandbox/machine.h"
#include "broker/sandbox/seccomp_filter.h"
#include "protocol/supervision.h"

namespace tlsbroker::sandbox {

// In this order, and read back: own namespaces (CLONE_NEW* in `namespaces`), empty root, own user,
// no capabilities, no_new_privs, no dumps, no children, no file by Landlock.
absl::Status GiveUpPrivileges(const supervision::Confinement& confinement, int namespaces,
                              std::string_view role);

// The parts of GiveUpPrivileges() that this machine cannot give.
MissingParts MissingInBrokerProcess(const Machine& machine);

// What any C++ program does that computes and logs: memory (never executable), signals of its own,
// time, random numbers, exit.
void AllowComputing(SeccompFilter& filter);

}  // namespace tlsbroker::sandbox

#endif  // TLSBROKER_BROKER_SANDBOX_BROKER_PROCESS_H_
