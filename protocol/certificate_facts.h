// SPDX-License-Identifier: Apache-2.0
// What a keyholder finds out about one [certificate.NAME], for the supervisor: the chain as clients
// get it, and what they will think of it. No key is in it. The supervisor passes the chain on
// without looking into it, and the texts to people.

#ifndef TLSBROKER_PROTOCOL_CERTIFICATE_FACTS_H_
#define TLSBROKER_PROTOCOL_CERTIFICATE_FACTS_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "protocol/wire.h"

namespace tlsbroker::supervision {

// No handshake has a certificate whose key or signature is weaker than this (SECLEVEL of OpenSSL);
// the handshakers set the level, the keyholder looks before. 2 is 112 bits of security: RSA with
// 2048 bits, SHA-224.
inline constexpr int kTlsSecurityLevel = 2;
inline constexpr int kTlsSecurityBits = 112;

struct CertificateFacts {
  static constexpr size_t kMaxNames = 2048;
  static constexpr size_t kMaxFindings = 64;
  static constexpr size_t kMaxLinks = 64;

  // A certificate of the chain, and when it is valid, in seconds since 1970.
  struct Link {
    std::string subject;
    uint64_t not_before = 0;
    uint64_t not_after = 0;
  };
  enum class About : uint8_t { kChain = 0, kKey = 1, kPassphrase = 2, kLast = kPassphrase };
  // What is wrong, in words for a person; an error if the certificate cannot be used.
  struct Finding {
    bool error = false;
    About about = About::kChain;
    std::string wrong;
    std::string right;
  };

  std::string chain_pem;               // the server's certificate, then its issuers
  std::string key;                     // "EC P-256"
  std::vector<Link> links;             // in the order of the chain; none only if there is no chain
  std::vector<std::string> names;      // DNS names, as they are written
  std::vector<std::string> addresses;  // IP addresses
  bool self_signed = false;
  bool for_servers = true;  // what its purposes (EKU) allow
  bool for_clients = true;
  bool signs_handshakes = true;  // what its key usage allows
  std::vector<Finding> findings;
};

// Empty if it is more than fits.
std::vector<uint8_t> EncodeFacts(const CertificateFacts& facts);
std::optional<CertificateFacts> DecodeFacts(wire::Bytes bytes);
// A decoder takes no more.
inline constexpr size_t kMaxFacts = 1024 * 1024;

}  // namespace tlsbroker::supervision

#endif  // TLSBROKER_PROTOCOL_CERTIFICATE_FACTS_H_
