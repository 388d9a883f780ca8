// SPDX-License-Identifier: Apache-2.0
// What the tests of libtlsbroker share: a queue whose sending end the test holds, as a handshaker
// does, and connections that came over it.

#ifndef TLSBROKER_TESTS_UNIT_CLIENT_PAIR_H_
#define TLSBROKER_TESTS_UNIT_CLIENT_PAIR_H_

#include <gtest/gtest.h>

#include <array>
#include <string>
#include <tlsbroker/tlsbroker.hpp>
#include <utility>
#include <vector>

#include "protocol/channel.h"
#include "protocol/handoff.h"
#include "tests/unit/fd_leaks.h"

namespace tlsbroker {

inline handoff::Description SomeDescription(handoff::Mode mode) {
  handoff::Description d;
  d.mode = mode;
  d.service = "web";
  d.tls_version = "TLSv1.3";
  d.cipher = "TLS_AES_128_GCM_SHA256";
  if (mode != handoff::Mode::kDirect) d.reason = "kernel-no-tls-ulp";
  return d;
}

class ClientTest : public NoFdLeaks {
 protected:
  ClientTest() {
    auto [broker, worker] = channel::MakePair();
    broker_queue_ = std::move(broker);
    EXPECT_EQ(Queue::FromFd(worker.get(), queue_), 0);
    EXPECT_EQ(queue_.fd(), worker.Release());
  }
  ~ClientTest() override {
    broker_queue_.Reset();
    queue_ = Queue();
  }

  // Hands `fd` over as a handshaker does.
  Connection HandOff(UniqueFd fd, const handoff::Description& description) {
    const std::array fds = {fd.get()};
    EXPECT_EQ(channel::Send(broker_queue_.get(), handoff::Encode(description), fds),
              channel::Result::kOk);
    fd.Reset();
    Connection connection;
    EXPECT_EQ(queue_.Accept(connection), 0);
    return connection;
  }

  UniqueFd broker_queue_;
  Queue queue_;
};

}  // namespace tlsbroker

#endif  // TLSBROKER_TESTS_UNIT_CLIENT_PAIR_H_
