// SPDX-License-Identifier: Apache-2.0
// The hand-off: the one datagram that gives a connection to a worker, a PROXY protocol v2 header
// that describes it with exactly one descriptor beside it. Public and versioned; PROTOCOL.md,
// "The hand-off", is normative. Written by handshakers, read by workers.

#ifndef TLSBROKER_PROTOCOL_HANDOFF_H_
#define TLSBROKER_PROTOCOL_HANDOFF_H_

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "protocol/wire.h"

namespace tlsbroker::handoff {

inline constexpr uint8_t kVersion = 1;
inline constexpr size_t kMaxMessage = 16 * 1024;
// Descriptions are padded with a NOOP TLV to at least this size, so that each costs the kernel the
// same memory and a queue of N descriptions can be sized exactly. Only a client certificate or very
// long names make one larger.
inline constexpr size_t kPaddedSize = 704;

// The kind of the descriptor beside the description.
enum class Mode : uint8_t {
  kDirect = 1,  // the TCP socket with kernel TLS in both directions
  kBridge = 2,  // a socketpair end, bridged to the kTLS socket by an unprivileged process
  kRelay = 3,   // a socketpair end, relayed by the handshaker: the kernel does not do the records
};
const char* ModeName(Mode mode);  // "direct", "bridge", "relay"

// Bits of the SSL TLV's client field, as the PROXY protocol defines them.
inline constexpr uint8_t kClientSsl = 0x01;
inline constexpr uint8_t kClientCertConnection = 0x02;
inline constexpr uint8_t kClientCertSession = 0x04;

struct Endpoint {
  bool ipv6 = false;
  std::array<uint8_t, 16> address{};  // IPv4 uses the first 4 bytes; network order
  uint16_t port = 0;                  // host order
  // "192.0.2.1" or "2001:db8::1".
  std::string AddressText() const;
  // "192.0.2.1:443" or "[2001:db8::1]:443".
  std::string ToString() const;
  friend bool operator==(const Endpoint&, const Endpoint&) = default;
};

struct Description {
  Mode mode = Mode::kDirect;
  bool resumed = false;
  bool we_are_client = false;  // the peer is the TLS server: from a request, never from the queue
  Endpoint peer;               // both of one family
  Endpoint local;
  std::string service;
  std::array<uint8_t, 16> unique_id{};
  std::string reason;         // why not direct; empty in direct mode. PROTOCOL.md lists them
  std::string alpn;           // empty: none negotiated
  std::string server_name;    // SNI; empty: the client sent none
  std::string tls_version;    // "TLSv1.3"
  std::string cipher;         // OpenSSL's name
  std::string group;          // "x25519"; empty if not known (TLS 1.2 resumption)
  std::string key_algorithm;  // of the server certificate: "EC256", "RSA2048", "ED25519"
  uint8_t client = kClientSsl;
  uint32_t verify = 1;  // not 0 unless a client certificate was presented and verified
  std::string client_common_name;
  std::vector<uint8_t> client_certificate;  // DER
  std::vector<uint8_t> rekey_token;         // opaque to the worker; empty: none

  friend bool operator==(const Description&, const Description&) = default;
};

// Empty if the description does not fit kMaxMessage, mixes address families, has no service or a
// NUL in a text.
std::vector<uint8_t> Encode(const Description& description);

// nullopt if it is malformed, of another version, not TCP over IPv4 or IPv6, without a service, or
// with a NUL in a text.
// TLVs of unknown type are skipped, as the PROXY protocol specification asks of receivers.
std::optional<Description> Decode(wire::Bytes bytes);

}  // namespace tlsbroker::handoff

#endif  // TLSBROKER_PROTOCOL_HANDOFF_H_
