// SPDX-License-Identifier: Apache-2.0
// Complete contents that handshakes have signed. Test only.

#ifndef TLSBROKER_TESTS_TESTLIB_SIGNED_CONTENTS_H_
#define TLSBROKER_TESTS_TESTLIB_SIGNED_CONTENTS_H_

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <string>
#include <vector>

#include "protocol/tls_groups.h"

namespace tlsbroker::testlib {

inline std::vector<uint8_t> ToOctets(const std::string& text) { return {text.begin(), text.end()}; }

inline std::string U16(size_t value) {
  return {static_cast<char>(value >> 8 & 0xff), static_cast<char>(value & 0xff)};
}

// --- TLS 1.3: CertificateVerify ---

inline std::string Tls13(const std::string& role, size_t hash = 32, size_t spaces = 64) {
  return std::string(spaces, ' ') + "TLS 1.3, " + role + " CertificateVerify" + '\0' +
         std::string(hash, '\x5a');
}

// --- TLS 1.2: ServerKeyExchange ---

inline std::string Point(size_t size, char first = 4) {
  return first + std::string(size - 1, '\x77');
}
inline std::string ShareOf(const tls_groups::Group& group) { return Point(group.share_size); }

inline std::string Parameters(uint8_t curve_type, uint16_t group, uint8_t length,
                              const std::string& share) {
  return static_cast<char>(curve_type) + U16(group) + static_cast<char>(length) + share;
}
inline std::string ParametersOf(const tls_groups::Group& group) {
  return Parameters(3, group.id, static_cast<uint8_t>(group.share_size), ShareOf(group));
}

// The client's random, then that of a server that could do TLS 1.3 as well.
inline std::string Randoms() { return std::string(56, '\xa5') + "DOWNGRD\x01"; }

inline const tls_groups::Group& GroupWith(uint16_t id) {
  return *std::ranges::find(tls_groups::kOffered, id, &tls_groups::Group::id);
}
inline std::string Tls12(uint16_t group = 29) { return Randoms() + ParametersOf(GroupWith(group)); }

// --- TLS 1.2: CertificateVerify ---

inline std::string Message(char type, const std::string& body) {
  return type + std::string(1, static_cast<char>(body.size() >> 16)) + U16(body.size()) + body;
}
inline std::string Filled(size_t size) { return std::string(size, '\x3c'); }
inline std::string Hello(size_t size) { return "\x03\x03" + Filled(size - 2); }

// The messages of a handshake, which a test can change one by one.
struct Tls12Transcript {
  std::string client_hello = Message(1, Hello(200));
  std::string server_hello = Message(2, Hello(80));
  std::string certificate = Message(11, Filled(700));
  std::string status;
  std::string key_exchange = KeyExchange(GroupWith(29));
  std::string request = Message(13, Filled(60));
  std::string done = Message(14, "");
  std::string own_certificate = Message(11, Filled(600));
  std::string own_key_exchange = OwnKeyExchange(GroupWith(29));

  static std::string KeyExchange(const tls_groups::Group& group) {
    return Message(12, ParametersOf(group) + "\x04\x03" + U16(71) + Filled(71));
  }
  static std::string OwnKeyExchange(const tls_groups::Group& group) {
    return Message(16, static_cast<char>(group.share_size) + ShareOf(group));
  }
  std::string text() const {
    return client_hello + server_hello + certificate + status + key_exchange + request + done +
           own_certificate + own_key_exchange;
  }
};

}  // namespace tlsbroker::testlib

#endif  // TLSBROKER_TESTS_TESTLIB_SIGNED_CONTENTS_H_
