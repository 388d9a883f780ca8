// SPDX-License-Identifier: Apache-2.0
// The certificates of one service, found by the name that the client asks for (SNI, RFC 6066 3).
// Runs in the handshaker; holds no private key: its EVP_PKEYs forward to the keyholder.

#ifndef TLSBROKER_BROKER_HANDSHAKER_CERTIFICATES_H_
#define TLSBROKER_BROKER_HANDSHAKER_CERTIFICATES_H_

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "broker/handshaker/keyholder_provider.h"
#include "broker/support/openssl_ptr.h"
#include "protocol/message.h"

namespace tlsbroker {

struct LoadedCertificate {
  uint16_t id = 0;
  std::string config_name;
  X509Ptr leaf;
  X509StackPtr chain;  // without the leaf
  EvpPkeyPtr key;
  std::vector<std::string> names;  // lower case, without a dot at the end; "*.example.org" as it is
  // The leaf is valid from the one to the other; seconds since 1970.
  uint64_t not_before = 0;
  uint64_t not_after = 0;

  bool IsValid(uint64_t now) const { return not_before <= now && now < not_after; }
  // Takes names and times from the leaf.
  void ReadLeaf();

  static absl::StatusOr<std::shared_ptr<const LoadedCertificate>> Load(
      OSSL_LIB_CTX* library, KeyholderProvider& provider, const supervision::Certificate& source);
};

// "EC256", "RSA2048", "ED25519": the KEY_ALG of the hand-off.
std::string KeyAlgorithm(const X509* certificate);

// Of several certificates for a name, one that is valid goes before one that is not, at the time of
// each handshake: certificates expire while the process runs.
class CertificateChoice {
 public:
  // Certificates for one set of names, one of each key type: ECDSA and RSA side by side.
  using Group = std::vector<std::shared_ptr<const LoadedCertificate>>;

  static uint64_t Now();  // seconds since 1970

  // These are in the order of the configuration: the first is the default.
  explicit CertificateChoice(std::vector<std::shared_ptr<const LoadedCertificate>> all);

  // What these return is valid until the next call with another `now`.
  const Group& default_group(uint64_t now = Now()) const;
  // The certificates for a name as the client sent it, the default ones if none fits.
  const Group& For(std::string_view server_name, uint64_t now = Now()) const;

 private:
  struct Choice {
    Group group;
    bool valid = false;
  };

  void Refresh(uint64_t now) const;
  static void Add(Choice& choice, const std::shared_ptr<const LoadedCertificate>& added,
                  uint64_t now);
  static void Finish(Choice& choice, uint64_t now);

  std::vector<std::shared_ptr<const LoadedCertificate>> all_;
  // What follows from all_ at any time in [from_, until_).
  mutable uint64_t from_ = 1;
  mutable uint64_t until_ = 0;
  mutable Choice default_;
  mutable absl::flat_hash_map<std::string, Choice> by_name_;
};

}  // namespace tlsbroker

#endif  // TLSBROKER_BROKER_HANDSHAKER_CERTIFICATES_H_
