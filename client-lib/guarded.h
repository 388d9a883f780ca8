// SPDX-License-Identifier: Apache-2.0
// The interface of libtlsbroker is C: nothing may be thrown across it.

#ifndef TLSBROKER_CLIENT_LIB_GUARDED_H_
#define TLSBROKER_CLIENT_LIB_GUARDED_H_

#include <cerrno>

namespace tlsbroker::client {

// Returns the body's result. The only thing that the library's own code can throw is
// std::bad_alloc.
template <typename Body>
int Guarded(Body body) noexcept {
  try {
    return body();
  } catch (...) {
    return -ENOMEM;
  }
}

}  // namespace tlsbroker::client

#endif  // TLSBROKER_CLIENT_LIB_GUARDED_H_
