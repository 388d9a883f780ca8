// SPDX-License-Identifier: Apache-2.0
// TCP connections to upstreams. This process can make none: it has no socket(2) and no connect(2),
// so that whoever takes it over reaches nobody. It asks the supervisor, which connects to addresses
// of the configuration and nothing else. Runs in the handshaker.

#ifndef TLSBROKER_BROKER_HANDSHAKER_CONNECTOR_H_
#define TLSBROKER_BROKER_HANDSHAKER_CONNECTOR_H_

#include <asio/any_io_executor.hpp>
#include <asio/awaitable.hpp>
#include <chrono>
#include <cstdint>
#include <functional>
#include <map>

#include "broker/handshaker/async_fd.h"
#include "protocol/message.h"

namespace tlsbroker {

class Connector {
 public:
  using Clock = std::chrono::steady_clock;
  // Returns whether the message was sent.
  using Ask = std::function<bool(const supervision::Connect&)>;

  // `ask` may be empty until the first Connect().
  void Use(Ask ask) { ask_ = std::move(ask); }

  struct Outcome {
    UniqueFd socket;  // connected; if invalid, see `error`
    int error = 0;    // errno; ETIMEDOUT after `until`
  };
  asio::awaitable<Outcome> Connect(uint16_t upstream_id, Clock::time_point until);

  // The supervisor's answer, which may come too late.
  void OnConnected(supervision::Connected answer);

 private:
  struct Waiting;

  asio::awaitable<supervision::Connected> WaitForAnswer(uint16_t upstream_id,
                                                        Clock::time_point until);

  Ask ask_;
  uint32_t last_request_ = 0;
  std::map<uint32_t, Waiting*> waiting_;
};

}  // namespace tlsbroker

#endif  // TLSBROKER_BROKER_HANDSHAKER_CONNECTOR_H_
