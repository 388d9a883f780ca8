// SPDX-License-Identifier: Apache-2.0
// What a worker gives up before it gets its first connection.

#ifndef TLSBROKER_CLIENT_LIB_CONFINE_H_
#define TLSBROKER_CLIENT_LIB_CONFINE_H_

namespace tlsbroker::client {

// Gives up SOL_TLS, TCP_ULP, recvmsg and recvmmsg with MSG_PEEK, io_uring and foreign system call
// tables, and gaining privileges by exec; in all threads, and for good. Returns 0 or -errno.
int GiveUpKeys();

}  // namespace tlsbroker::client

#endif  // TLSBROKER_CLIENT_LIB_CONFINE_H_
