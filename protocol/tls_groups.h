// SPDX-License-Identifier: Apache-2.0
// The groups of ECDHE that all services offer, in the order of preference. One list for the two
// that have to agree: the handshaker offers these, and the keyholder signs no ServerKeyExchange
// that names another one. tests/unit/keyholder_provider_test.cc checks that OpenSSL offers the
// same.

#ifndef TLSBROKER_PROTOCOL_TLS_GROUPS_H_
#define TLSBROKER_PROTOCOL_TLS_GROUPS_H_

#include <cstddef>
#include <cstdint>

namespace tlsbroker::tls_groups {

struct Group {
  const char* name;   // OpenSSL's
  uint16_t id;        // RFC 8446 section 4.2.7
  size_t share_size;  // section 4.2.8.2: fixed by the group
  bool is_point;      // uncompressed: a first byte 4, then both coordinates
};

inline constexpr Group kOffered[] = {
    {"X25519", 29, 32, false},
    {"P-256", 23, 65, true},
    {"P-384", 24, 97, true},
};

// Preferred to all of them where OpenSSL has it, from 3.5 on. It is for TLS 1.3 alone, so no
// ServerKeyExchange names it.
inline constexpr const char* kPostQuantum = "X25519MLKEM768";

}  // namespace tlsbroker::tls_groups

#endif  // TLSBROKER_PROTOCOL_TLS_GROUPS_H_
