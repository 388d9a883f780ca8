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
#include "protocol/supervision.h"

namespace tlsbroker {

struct LoadedCertificate {
  uint16_t id = 0;
  std::string config_name;
  X509Ptr leaf;
  X509StackPtr chain;  // without the leaf
  EvpPkeyPtr key;
  std::vector<std::string> names;  // lower case, "*.example.org" as it stands
  uint64_t not_after = 0;          // of the leaf, seconds since 1970

  static absl::StatusOr<std::shared_ptr<const LoadedCertificate>> Load(
      OSSL_LIB_CTX* library, KeyholderProvider& provider, const supervision::Certificate& source);
};

// "EC256", "RSA2048", "ED25519": the KEY_ALG of the hand-off.
std::string KeyAlgorithm(const X509* certificate);

class CertificateChoice {
 public:
  // Certificates for one set of names, one of each key type: ECDSA and RSA side by side.
  using Group = std::vector<std::shared_ptr<const LoadedCertificate>>;

  // In the order of the configuration: the first is the default.
  explicit CertificateChoice(const std::vector<std::shared_ptr<const LoadedCertificate>>& all);

  const Group& default_group() const { return default_; }
  // The certificates for a name as the client sent it, the default ones if none fits.
  const Group& For(std::string_view server_name) const;

 private:
  Group default_;
  absl::flat_hash_map<std::string, Group> by_name_;
};

}  // namespace tlsbroker

#endif  // TLSBROKER_BROKER_HANDSHAKER_CERTIFICATES_H_
