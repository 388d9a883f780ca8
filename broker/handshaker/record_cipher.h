// SPDX-License-Identifier: Apache-2.0
// Seals and opens single TLS records in user space with the keys that the kernel gets: the second
// opinion by which the capability probe and the tests check what the kernel makes. Runs in the
// handshaker's probe, with throw-away keys only; a connection's records never come here.

#ifndef TLSBROKER_BROKER_HANDSHAKER_RECORD_CIPHER_H_
#define TLSBROKER_BROKER_HANDSHAKER_RECORD_CIPHER_H_

#include <array>
#include <cstdint>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "broker/handshaker/crypto_info.h"
#include "broker/handshaker/traffic_secrets.h"
#include "broker/support/openssl_ptr.h"

namespace tlsbroker {

inline constexpr uint8_t kAlertType = 21;
inline constexpr uint8_t kHandshakeType = 22;
inline constexpr uint8_t kApplicationDataType = 23;
inline constexpr size_t kRecordHeaderSize = 5;

struct Record {
  uint8_t type;
  std::string text;
};

// One direction. Both calls take the next record number, Open() only when the record is good.
class RecordCipher {
 public:
  // An error if this OpenSSL has no such AEAD.
  static absl::StatusOr<RecordCipher> Create(OSSL_LIB_CTX* library, TlsVersion version, Suite suite,
                                             const DirectionKeys& keys);

  absl::StatusOr<std::string> Seal(uint8_t type, std::string_view text);
  // `record` is exactly one, with its header. DataLoss if it is not what the peer sealed.
  absl::StatusOr<Record> Open(std::string_view record);

  // The size of what Seal() makes of `text`: header, explicit nonce, text, inner type and tag.
  size_t SealedSize(size_t text) const;

 private:
  using Nonce = std::array<uint8_t, kNonceSize>;

  RecordCipher() = default;
  bool has_explicit_nonce() const;
  std::string Header(uint8_t type, size_t body) const;
  std::string AdditionalData(uint8_t type, size_t text, size_t body) const;
  Nonce NonceOf(std::string_view explicit_part) const;
  std::string NextExplicitNonce() const;
  bool Crypt(bool seal, const Nonce& nonce, std::string_view additional_data, std::string_view in,
             char* out, char* tag);
  absl::StatusOr<Record> TakeInnerType(std::string text) const;

  TlsVersion version_ = TlsVersion::kTls13;
  Suite suite_ = Suite::kAes128Gcm;
  SecretBytes crypto_info_;
  uint64_t sequence_ = 0;
  uint64_t sealed_ = 0;
  EvpCipherPtr cipher_;
  EvpCipherCtxPtr context_;
};

}  // namespace tlsbroker

#endif  // TLSBROKER_BROKER_HANDSHAKER_RECORD_CIPHER_H_
