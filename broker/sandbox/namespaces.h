// SPDX-License-Identifier: Apache-2.0
// A process's own view of the machine: mounts, IPC, network, and a root directory with
// nothing in it. Runs in each process of the broker while it is confined and still has
// CAP_SYS_ADMIN.

#ifndef TLSBROKER_BROKER_SANDBOX_NAMESPACES_H_
#define TLSBROKER_BROKER_SANDBOX_NAMESPACES_H_

#include "absl/status/status.h"

namespace tlsbroker::sandbox {

// `flags`: CLONE_NEWNS, CLONE_NEWIPC, CLONE_NEWNET. A new network namespace is empty
// but for a loopback interface that is down; sockets that are open stay where they are.
absl::Status EnterNamespaces(int flags);

// Enters a network namespace of one's own, whose processes reach each other by 127.0.0.1 and ::1,
// and nobody else. With CAP_NET_ADMIN it is made here. Without it, as under tlsbroker.service, the
// service manager makes it (tlsbroker-loopback.socket).
absl::Status EnterLoopbackNetwork();

// Makes an empty, read-only file system the root and working directory. To be called in a mount
// namespace of one's own.
absl::Status EnterEmptyRoot();

}  // namespace tlsbroker::sandbox

#endif  // TLSBROKER_BROKER_SANDBOX_NAMESPACES_H_
