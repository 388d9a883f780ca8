// Reads certificate chains and private keys. Runs in the keyholder, before it is confined, on files
// and URIs of the administrator, who is trusted; what is wrong with them is told in one line for a
// person.

#ifndef TLSBROKER_BROKER_KEYHOLDER_KEY_FILES_H_
#define TLSBROKER_BROKER_KEYHOLDER_KEY_FILES_H_

#include <openssl/decoder.h>

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "broker/keyholder/memory.h"
#include "broker/support/openssl_ptr.h"

namespace tlsbroker {

inline constexpr size_t kMaxKeyFile = 1024 * 1024;

// The first certificate of a PEM chain, after all of them were read.
absl::StatusOr<X509Ptr> LeafOfChain(std::string_view chain_pem);

using OsslDecoderCtxPtr = OpensslPtr<OSSL_DECODER_CTX, OSSL_DECODER_CTX_free>;

// Reads key files, as many as there are: what costs is made for the first one.
class KeyFileReader {
 public:
  KeyFileReader() = default;
  KeyFileReader(const KeyFileReader&) = delete;
  KeyFileReader& operator=(const KeyFileReader&) = delete;

  // The first private key in the file: PEM or DER, not encrypted.
  absl::StatusOr<EvpPkeyPtr> Read(int fd);

 private:
  // Null for what is not as usual: OSSL_STORE may know it, and says what is wrong with it.
  EvpPkeyPtr DecodePem(std::string_view text);

  std::optional<KeyFileBuffer> buffer_;
  EVP_PKEY* decoded_ = nullptr;  // where decoder_ leaves a key
  OsslDecoderCtxPtr decoder_;
};

// What OSSL_STORE loads by this name: "file:...", "pkcs11:...", whatever a provider serves.
absl::StatusOr<EvpPkeyPtr> ReadKeyUri(const std::string& uri);

}  // namespace tlsbroker

#endif  // TLSBROKER_BROKER_KEYHOLDER_KEY_FILES_H_
