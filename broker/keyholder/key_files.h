// Reads certificate chains and private keys. Runs in the keyholder, before it is confined, on files
// and URIs of the administrator, who is trusted; what is wrong with them is told in one line for a
// person.

#ifndef TLSBROKER_BROKER_KEYHOLDER_KEY_FILES_H_
#define TLSBROKER_BROKER_KEYHOLDER_KEY_FILES_H_

#include <cstddef>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "broker/support/openssl_ptr.h"

namespace tlsbroker {

inline constexpr size_t kMaxKeyFile = 1024 * 1024;

// The first certificate of a PEM chain, after all of them were read.
absl::StatusOr<X509Ptr> LeafOfChain(std::string_view chain_pem);

// The first private key in the file: PEM or DER, not encrypted.
absl::StatusOr<EvpPkeyPtr> ReadKeyFile(int fd);
// What OSSL_STORE loads by this name: "file:...", "pkcs11:...", whatever a provider serves.
absl::StatusOr<EvpPkeyPtr> ReadKeyUri(const std::string& uri);

}  // namespace tlsbroker

#endif  // TLSBROKER_BROKER_KEYHOLDER_KEY_FILES_H_
