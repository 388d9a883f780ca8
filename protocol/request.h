// What a worker asks of the broker, and the answer: PROTOCOL.md section 6 is normative. Public and
// versioned. Requests are written by workers, answers by handshakers.

#ifndef TLSBROKER_PROTOCOL_REQUEST_H_
#define TLSBROKER_PROTOCOL_REQUEST_H_

#include <cstdint>
#include <optional>
#include <vector>

#include "protocol/wire.h"

namespace tlsbroker::request {

inline constexpr uint8_t kVersion = 1;
inline constexpr size_t kMaxMessage = 1024;
inline constexpr size_t kMaxToken = 512;

// Which keys of the connection are to be followed by the next ones.
enum class Direction : uint8_t {
  kReceive = 1,  // the peer's KeyUpdate has been read
  kSend = 2,     // our own: the broker sends the KeyUpdate
};

// fd 0 of the message: one end of a pair of SOCK_SEQPACKET sockets for the answer; fd 1: the
// connection.
struct Rekey {
  Direction direction = Direction::kReceive;
  std::vector<uint8_t> token;
};

enum class Status : uint8_t {
  kDone = 0,     // with the next token; the old one is worth nothing any more
  kBusy = 1,     // no room for the KeyUpdate; nothing has changed
  kRefused = 2,  // not a token of this broker and this connection in its present state
  kFailed = 3,   // the kernel did not take the keys: the connection is only good for closing
};

struct Answer {
  Status status = Status::kFailed;
  std::vector<uint8_t> token;  // kDone
};

std::vector<uint8_t> Encode(const Rekey& rekey);
std::vector<uint8_t> Encode(const Answer& answer);

// nullopt for anything that Encode cannot have written.
std::optional<Rekey> DecodeRekey(wire::Bytes bytes);
std::optional<Answer> DecodeAnswer(wire::Bytes bytes);

}  // namespace tlsbroker::request

#endif  // TLSBROKER_PROTOCOL_REQUEST_H_
