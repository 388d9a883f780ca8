// SPDX-License-Identifier: Apache-2.0
// What a porter is told, and says (message.h).

#ifndef TLSBROKER_PROTOCOL_PORTER_MESSAGES_H_
#define TLSBROKER_PROTOCOL_PORTER_MESSAGES_H_

#include <cstdint>
#include <string>
#include <vector>

#include "protocol/unique_fd.h"

namespace tlsbroker::supervision {

// Where strangers connect. fd 0 of the message: a Unix socket that has its name and does not listen
// yet, so nobody waits in it; the porter listens.
struct Door {
  static constexpr uint8_t kType = 48;
  UniqueFd socket;
};

// Whom a porter lets in, and what they get: fd 0 of the message, the receiving end of the service's
// queue; fd 1, the sending end of its workers' requests.
struct AttachPoint {
  static constexpr uint8_t kType = 49;
  std::string service;
  uint8_t log_level = 0;      // log::Level
  uint32_t max_attached = 0;  // at once
  std::vector<uint32_t> uids;
  std::vector<uint32_t> gids;
  UniqueFd queue;
  UniqueFd requests;
};

// Tells the porter to answer with the broker's state. fd 0 of the message: a pidfd of the
// supervisor, which goes to whoever asks as well, for `tlsbroker reload`.
struct StatusPoint {
  static constexpr uint8_t kType = 50;
  UniqueFd supervisor;
};

struct StatusWanted {
  static constexpr uint8_t kType = 54;
  uint32_t request = 0;
};

// fd 0 of the message: a memory file with the text, as the state is now.
struct StatusText {
  static constexpr uint8_t kType = 51;
  uint32_t request = 0;
  UniqueFd text;
};

// A worker has its queue, and its connection stays open.
struct Attached {
  static constexpr uint8_t kType = 52;
  uint32_t number = 0;  // no other worker of that porter has it
  uint32_t pid = 0;
  uint32_t uid = 0;
};

struct Detached {
  static constexpr uint8_t kType = 53;
  uint32_t number = 0;
};

}  // namespace tlsbroker::supervision

#endif  // TLSBROKER_PROTOCOL_PORTER_MESSAGES_H_
