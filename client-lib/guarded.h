// The interface of libtlsbroker is C: nothing may be thrown across it.

#ifndef TLSBROKER_CLIENT_LIB_GUARDED_H_
#define TLSBROKER_CLIENT_LIB_GUARDED_H_

#include <cerrno>

namespace tlsbroker::client {

// The body's result. Only memory can run out in the library's own code.
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
