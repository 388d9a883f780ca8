// SPDX-License-Identifier: Apache-2.0
// What a worker asks of the broker, and the answer: PROTOCOL.md section 6 is normative. Public and
// versioned. Requests are written by workers, answers by handshakers.

#ifndef TLSBROKER_PROTOCOL_REQUEST_H_
#define TLSBROKER_PROTOCOL_REQUEST_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "protocol/handoff.h"
#include "protocol/wire.h"

namespace tlsbroker::request {

inline constexpr uint8_t kVersion = 1;
inline constexpr size_t kMaxMessage = 1024;
inline constexpr size_t kMaxToken = 512;

// Which keys of the connection are to be replaced by the next ones.
enum class Direction : uint8_t {
  kReceive = 1,  // the peer's KeyUpdate has been read
  kSend = 2,     // our own: the broker sends the KeyUpdate
  kFirst = kReceive,
  kLast = kSend,
};

// fd 0 of the message: one end of a pair of SOCK_SEQPACKET sockets for the answer; fd 1: the
// connection.
struct Rekey {
  static constexpr uint8_t kType = 1;
  Direction direction = Direction::kReceive;
  std::vector<uint8_t> token;
};

enum class Status : uint8_t {
  kDone = 0,     // with the next token; the old one is not accepted any more
  kBusy = 1,     // no room for the KeyUpdate; nothing has changed
  kRefused = 2,  // not a token of this broker and this connection in its present state
  kFailed = 3,   // the kernel did not take the keys: the connection is only good for closing
  kLast = kFailed,
};

struct Answer {
  static constexpr uint8_t kType = 2;
  Status status = Status::kFailed;
  std::vector<uint8_t> token;  // kDone
};

// ---- A TLS connection that the worker did not get from the queue

inline constexpr size_t kMaxName = 255;
inline constexpr size_t kMaxAlpn = 16;  // protocols
inline constexpr size_t kMaxText = 128;
inline constexpr size_t kMaxOpened = handoff::kMaxMessage + 256;

enum class Role : uint8_t { kServer = 1, kClient = 2, kFirst = kServer, kLast = kClient };

// fd 0 of the message: as for Rekey; fd 1: a connected TCP socket, whose next byte is TLS. The
// server's name, protocols and certificates are those of the service.
struct Wrap {
  static constexpr uint8_t kType = 3;
  Role role = Role::kServer;
  std::string name;  // kClient: who the other side has to be, a host name or an address
  std::vector<std::string> alpn;  // kClient: in order of preference
  std::string certificate;        // kClient: by its name in the configuration; empty: none
};

// fd 0 of the message: as for Rekey; no other.
struct Dial {
  static constexpr uint8_t kType = 4;
  std::string upstream;  // by its name in the configuration
};

enum class Result : uint8_t {
  kDone = 0,          // one descriptor comes with it
  kBusy = 1,          // too many are under way; nothing has happened
  kNotAllowed = 2,    // by the configuration; nothing has happened
  kBadSocket = 3,     // fd 1 is no connected TCP socket, or no TLS is possible on it
  kNotConnected = 4,  // the upstream's address does not answer
  kTimeout = 5,
  kPeerGone = 6,      // the other side closed during the handshake, or sent what is no TLS
  kHandshake = 7,     // TLS: no common ground, or an alert
  kWrongName = 8,     // from here on: the server's certificate
  kExpired = 9,       // or not valid yet
  kSelfSigned = 10,   // and not itself among the trusted ones
  kUnknownCa = 11,    // issued by nobody who is trusted
  kPin = 12,          // none of the keys that the configuration pins
  kCertificate = 13,  // wrong in another way
  kNoKtls = 14,       // kernel TLS is required and not possible, or too many are relayed
  kFailed = 15,       // an error of the broker itself
  kLast = kFailed,
};

struct Opened {
  static constexpr uint8_t kType = 5;
  Result result = Result::kFailed;
  std::string text;                  // not kDone: a token for logs, may be empty
  std::vector<uint8_t> description;  // kDone: handoff::Encode()
};

// Empty for what its decoder would refuse.
std::vector<uint8_t> Encode(const Rekey& rekey);
std::vector<uint8_t> Encode(const Answer& answer);
std::vector<uint8_t> Encode(const Wrap& wrap);
std::vector<uint8_t> Encode(const Dial& dial);
std::vector<uint8_t> Encode(const Opened& opened);

// nullopt for anything that Encode cannot have written.
std::optional<Rekey> DecodeRekey(wire::Bytes bytes);
std::optional<Answer> DecodeAnswer(wire::Bytes bytes);
std::optional<Wrap> DecodeWrap(wire::Bytes bytes);
std::optional<Dial> DecodeDial(wire::Bytes bytes);
std::optional<Opened> DecodeOpened(wire::Bytes bytes);

}  // namespace tlsbroker::request

#endif  // TLSBROKER_PROTOCOL_REQUEST_H_
