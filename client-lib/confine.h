// What a worker gives up before it gets its first connection.

#ifndef TLSBROKER_CLIENT_LIB_CONFINE_H_
#define TLSBROKER_CLIENT_LIB_CONFINE_H_

namespace tlsbroker::client {

// SOL_TLS, TCP_ULP, io_uring and foreign system call tables, and gaining privileges by exec; in all
// threads, and for good. 0 or -errno.
int GiveUpKeys();

}  // namespace tlsbroker::client

#endif  // TLSBROKER_CLIENT_LIB_CONFINE_H_
