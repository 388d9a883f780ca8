// SPDX-License-Identifier: Apache-2.0
// The three tls12_crypto_info_* structures of <linux/tls.h> as one: they hold the same fields in
// the same order and differ in the sizes only. Written and read in place, in a SecretBytes, so that
// no copy of a key is left on a stack. Used in the handshaker, between derivation, socket and
// probe.

#ifndef TLSBROKER_BROKER_HANDSHAKER_CRYPTO_INFO_H_
#define TLSBROKER_BROKER_HANDSHAKER_CRYPTO_INFO_H_

#include <linux/tls.h>

#include <cstddef>
#include <cstdint>
#include <span>

#include "broker/handshaker/traffic_secrets.h"

namespace tlsbroker {

// Salt and IV together are the 12 bytes that TLS calls the write IV; for AES-GCM in TLS 1.2 the IV
// part is the record's explicit nonce.
inline constexpr size_t kNonceSize = 12;
inline constexpr size_t kSequenceSize = 8;

struct CryptoInfoLayout {
  uint16_t cipher_type;
  size_t iv, key, salt;  // sizes; `sequence` is always kSequenceSize

  constexpr size_t iv_offset() const { return sizeof(tls_crypto_info); }
  constexpr size_t key_offset() const { return iv_offset() + iv; }
  constexpr size_t salt_offset() const { return key_offset() + key; }
  constexpr size_t sequence_offset() const { return salt_offset() + salt; }
  constexpr size_t size() const { return sequence_offset() + kSequenceSize; }
};

constexpr CryptoInfoLayout LayoutOf(Suite suite) {
  switch (suite) {
    case Suite::kAes128Gcm:
      return {TLS_CIPHER_AES_GCM_128, 8, 16, 4};
    case Suite::kAes256Gcm:
      return {TLS_CIPHER_AES_GCM_256, 8, 32, 4};
    case Suite::kChaCha20Poly1305:
      return {TLS_CIPHER_CHACHA20_POLY1305, 12, 32, 0};
  }
  __builtin_unreachable();
}

constexpr uint16_t KernelVersion(TlsVersion version) {
  return version == TlsVersion::kTls13 ? TLS_1_3_VERSION : TLS_1_2_VERSION;
}

template <typename Byte>  // uint8_t or const uint8_t
struct CryptoInfoFields {
  std::span<Byte> iv, key, salt, sequence;
};

// `whole` must have the suite's LayoutOf().size() bytes.
template <typename Byte>
CryptoInfoFields<Byte> FieldsOf(Suite suite, std::span<Byte> whole) {
  const CryptoInfoLayout at = LayoutOf(suite);
  return {whole.subspan(at.iv_offset(), at.iv), whole.subspan(at.key_offset(), at.key),
          whole.subspan(at.salt_offset(), at.salt),
          whole.subspan(at.sequence_offset(), kSequenceSize)};
}

}  // namespace tlsbroker

#endif  // TLSBROKER_BROKER_HANDSHAKER_CRYPTO_INFO_H_
