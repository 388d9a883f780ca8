// SPDX-License-Identifier: Apache-2.0
// What happens to an exception that a coroutine does not catch. asio::detached drops it, and what
// the coroutine was there for stays undone for ever, without anybody noticing. Used by supervisor
// and handshaker.

#ifndef TLSBROKER_BROKER_SUPPORT_COROUTINES_H_
#define TLSBROKER_BROKER_SUPPORT_COROUTINES_H_

#include <exception>
#include <string>

#include "broker/support/log.h"

namespace tlsbroker {

// For asio::co_spawn of a coroutine without which the process is of no use: the process ends, and
// is replaced.
struct EndsProcess {
  void operator()(const std::exception_ptr& error) const noexcept {
    if (error) std::rethrow_exception(error);  // std::terminate, which says what it was
  }
};

// For the coroutine of one connection: it is given up, the others go on.
struct EndsConnection {
  void operator()(const std::exception_ptr& error) const noexcept {
    if (!error) return;
    try {
      std::rethrow_exception(error);
    } catch (const std::exception& exception) {
      log::Error("a connection is given up: " + std::string(exception.what()));
    }
  }
};

}  // namespace tlsbroker

#endif  // TLSBROKER_BROKER_SUPPORT_COROUTINES_H_
