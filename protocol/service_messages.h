// SPDX-License-Identifier: Apache-2.0
// What keyholder and handshakers of a service are told, and say (message.h), but for ServiceTerms
// (modes.h) and Counters (counters.h).

#ifndef TLSBROKER_PROTOCOL_SERVICE_MESSAGES_H_
#define TLSBROKER_PROTOCOL_SERVICE_MESSAGES_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "protocol/modes.h"
#include "protocol/unique_fd.h"

namespace tlsbroker::supervision {

inline constexpr size_t kMaxChain = 64 * 1024 - 1;  // bytes of PEM; one TLV holds it

// fd 0 and 1 of the message: the handshaker's ends of its signing channel to the keyholder; fd 2: a
// file in memory, empty and sealed, that all handshakers of the service lock (fcntl(2), F_SETLK)
// while they change keys.
struct Settings {
  static constexpr uint8_t kType = 2;
  bool first = false;         // of its generation: it says for all what the kernel can do
  UniqueFd signing_requests;  // to write into
  UniqueFd signing_answers;   // to read from
  UniqueFd rekey_lock;
};

// This handshaker's part of the service's limits, which changes with the number of handshakers.
// Connections beyond a new limit go on.
struct Limits {
  static constexpr uint8_t kType = 14;
  uint32_t max_handshakes = 0;             // under way at once
  uint32_t max_handshakes_per_source = 0;  // the same per source address (IPv6: per /64)
  uint32_t max_relayed = 0;                // relayed connections at once
  uint32_t max_relayed_per_source = 0;
  uint32_t handshake_timeout_ms = 5000;  // for each; not shared
};

// To the handshakers without a key; to the keyholder with the opened key file, the last descriptor
// of the message, or with key_uri for what OSSL_STORE loads by name. The passphrase's file is the
// descriptor before, if the key has one.
struct Certificate {
  static constexpr uint8_t kType = 4;
  uint16_t id = 0;
  std::string name;
  std::string chain_pem;  // the certificates alone, as Inspected has them
  std::string key_uri;
  UniqueFd key_file;  // may be invalid
  bool has_passphrase = false;
  UniqueFd passphrase;
};

// To a keyholder that only looks at files, and serves nobody: what is in these? The chain's file
// is fd 0 of the message. The key is in a file of its own, behind a URI, or, with neither, in the
// chain's file.
struct Inspect {
  static constexpr uint8_t kType = 27;
  uint16_t id = 0;
  std::string key_uri;
  bool has_key_file = false;
  bool has_passphrase = false;
  UniqueFd chain;
  UniqueFd key_file;
  UniqueFd passphrase;
};

// The keyholder's answer: an encoded CertificateFacts (certificate_facts.h), in as many pieces as
// it takes.
struct Inspected {
  static constexpr uint8_t kType = 28;
  static constexpr size_t kMaxPiece = 3 * 1024;  // ring::kMaxMessage has room for it
  uint16_t id = 0;
  bool last = false;
  std::vector<uint8_t> piece;
};

// The certificate authorities that the broker trusts as a client. fd 0 of the message: a PEM file,
// which other handshakers have as well.
struct TrustAnchors {
  static constexpr uint8_t kType = 10;
  uint16_t id = 0;
  std::string name;  // the file's, for messages
  UniqueFd file;
};

// A server that workers may have dialled.
struct Upstream {
  static constexpr uint8_t kType = 11;
  uint16_t id = 0;
  std::string name;         // in the configuration
  std::string server_name;  // that its certificate has to have
  std::vector<std::string> alpn;
  std::vector<Pin> pins;  // none: any key
  uint16_t trust_id = 0;
  std::optional<uint16_t> certificate_id;  // that the server is shown if it asks for one
};

// fd 0 of the message: the sending end of the service's queue; fd 1: the receiving end of its
// workers' requests.
struct Service {
  static constexpr uint8_t kType = 5;
  std::string name;
  std::vector<uint16_t> certificate_ids;       // the first is the default
  std::optional<uint16_t> wrap_trust_id;       // workers may be clients of whom these vouch for
  std::vector<uint16_t> wrap_certificate_ids;  // and with any of these
  std::vector<uint16_t> upstream_ids;          // that workers may have dialled
  UniqueFd queue;
  UniqueFd requests;
};

// fd 0 of the message: a TCP socket of the service, non-blocking, which listens when Accept comes.
struct Listener {
  static constexpr uint8_t kType = 6;
  UniqueFd socket;
};

// To the keyholder; fd 0 and 1 of the message: its ends of one handshaker's signing channel. Only
// the certificates listed may be used over it, each in the roles that are listed, as a server only
// with the versions of TLS that are offered, and only so often.
struct HandshakerChannel {
  static constexpr uint8_t kType = 7;
  uint16_t index = 0;
  uint32_t max_signatures = 0;                   // a second, and not 0
  std::vector<uint16_t> certificate_ids;         // as a server
  std::vector<uint16_t> client_certificate_ids;  // as a client
  Policy policy = Policy::kModern;
  UniqueFd requests;  // to read from
  UniqueFd answers;   // to write into
};

// The generation is in force. Handshakers accept nothing before: if the generation is given up
// because another of its processes does not start, such connections would be cut.
struct Accept {
  static constexpr uint8_t kType = 13;
};

// The handshakers make no connections: they ask for one to an upstream, and get a socket that is
// connecting, whether or not that succeeds.
struct Connect {
  static constexpr uint8_t kType = 22;
  uint32_t request = 0;
  uint16_t upstream_id = 0;
};

// fd 0 of the message, if error is 0: a TCP socket that is connected, or connecting.
struct Connected {
  static constexpr uint8_t kType = 12;
  uint32_t request = 0;
  uint32_t error = 0;  // errno
  UniqueFd socket;
};

// Why the last relayed connection was relayed.
struct LastReason {
  static constexpr uint8_t kType = 25;
  std::string text;
};

// Connections that come from then on are the next generation's.
struct Draining {
  static constexpr uint8_t kType = 23;
};

struct Drained {
  static constexpr uint8_t kType = 19;
};

}  // namespace tlsbroker::supervision

#endif  // TLSBROKER_PROTOCOL_SERVICE_MESSAGES_H_
