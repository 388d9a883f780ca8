// SPDX-License-Identifier: Apache-2.0
// Reads certificates and private keys, in all forms in which openssl(1) writes them. Runs in the
// keyholder: on files once it is confined, on URIs before, since what serves them opens files and
// sockets of its own. An error says in one line, for a person, what is wrong with them.

#ifndef TLSBROKER_BROKER_KEYHOLDER_KEY_FILES_H_
#define TLSBROKER_BROKER_KEYHOLDER_KEY_FILES_H_

#include <openssl/decoder.h>
#include <openssl/pkcs12.h>

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "broker/keyholder/memory.h"
#include "broker/keyholder/passphrase.h"
#include "broker/keyholder/pem_text.h"
#include "broker/support/openssl_ptr.h"

namespace tlsbroker {

inline constexpr size_t kMaxKeyFile = 1024 * 1024;

// The first certificate of a PEM chain, after all of them were read. Handshakers get the same
// text: if a private key were in it, that would be an error.
absl::StatusOr<X509Ptr> LeafOfChain(std::string_view chain_pem);

using OsslDecoderCtxPtr = OpensslPtr<OSSL_DECODER_CTX, OSSL_DECODER_CTX_free>;

// What is in a file.
struct KeyFile {
  struct Certificate {
    X509Ptr certificate;
    size_t line = 0;  // where it begins, in PEM; 0 in other forms
  };
  std::vector<Certificate> certificates;
  std::vector<EvpPkeyPtr> keys;
  std::vector<std::string> others;  // "CERTIFICATE REQUEST": what else is there in PEM

  // "the file has CERTIFICATE and X509 CRL"; empty if it has no PEM.
  std::string Summary() const;
};

// Older versions of openssl(1) encrypt with DES and RC2, which OpenSSL 3 has in a provider, which
// is a file, and so has to be loaded before the process is confined. The default provider has to be
// named as well then: it is there by itself only as long as no other is named. Both stay as long as
// the process.
void LoadOlderCiphers();

// Whether a file may need them although there is no passphrase: PKCS#12 with an empty one.
bool MayNeedOlderCiphers(int fd);

// Reads any number of files: what is expensive to make is made for the first one and kept.
class KeyFileReader {
 public:
  enum class Want { kCertificates, kKeys, kBoth };

  KeyFileReader() = default;
  KeyFileReader(const KeyFileReader&) = delete;
  KeyFileReader& operator=(const KeyFileReader&) = delete;

  // PEM with any objects in any order, DER, PKCS#12, PKCS#7. What is not wanted may be missing in
  // the result. FailedPrecondition: the passphrase is missing or wrong.
  absl::StatusOr<KeyFile> Read(int fd, Want want, Passphrase& passphrase);
  absl::StatusOr<KeyFile> Parse(std::span<const uint8_t> bytes, Want want, Passphrase& passphrase);

 private:
  absl::Status TakePem(const std::vector<PemObject>& objects, Want want, Passphrase& passphrase,
                       KeyFile& file);
  absl::StatusOr<EvpPkeyPtr> DecodeKey(const PemObject& object, Passphrase& passphrase);
  // Null if the text is not of a usual form.
  EvpPkeyPtr DecodeUsual(std::string_view text);

  std::optional<KeyFileBuffer> buffer_;
  EVP_PKEY* decoded_ = nullptr;  // where decoder_ leaves a key
  OsslDecoderCtxPtr decoder_;
};

// The error for a file without a key.
absl::Status NoKeyIn(const KeyFile& file);

// The key that OSSL_STORE loads by this name: "file:...", "pkcs11:...", whatever a provider serves.
// The passphrase may be a PIN.
absl::StatusOr<EvpPkeyPtr> ReadKeyUri(const std::string& uri, Passphrase& passphrase);

}  // namespace tlsbroker

#endif  // TLSBROKER_BROKER_KEYHOLDER_KEY_FILES_H_
