// SPDX-License-Identifier: Apache-2.0
// Key derivation of TLS 1.3 (RFC 8446 7.3) and TLS 1.2 (RFC 5246 6.3). Runs in the handshaker;
// every intermediate value is wiped.

#include "broker/handshaker/traffic_secrets.h"

#include <openssl/core_names.h>
#include <openssl/params.h>

#include <algorithm>
#include <cstring>
#include <string_view>
#include <utility>

#include "absl/strings/str_cat.h"
#include "broker/handshaker/crypto_info.h"
#include "broker/support/openssl_ptr.h"
#include "broker/support/status.h"

namespace tlsbroker {
namespace {

// Whether crypto_info.h computes the sizes and offsets that <linux/tls.h> has.
template <typename Info>
constexpr bool Matches(const CryptoInfoLayout& layout) {
  return layout.size() == sizeof(Info) && layout.iv_offset() == offsetof(Info, iv) &&
         layout.key_offset() == offsetof(Info, key) &&
         layout.salt_offset() == offsetof(Info, salt) &&
         layout.sequence_offset() == offsetof(Info, rec_seq) &&
         layout.iv + layout.salt == kNonceSize;
}
static_assert(Matches<tls12_crypto_info_aes_gcm_128>(LayoutOf(Suite::kAes128Gcm)));
static_assert(Matches<tls12_crypto_info_aes_gcm_256>(LayoutOf(Suite::kAes256Gcm)));
static_assert(Matches<tls12_crypto_info_chacha20_poly1305>(LayoutOf(Suite::kChaCha20Poly1305)));
static_assert(sizeof(tls12_crypto_info_aes_gcm_256) <= SecretBytes::kCapacity);
static_assert(sizeof(tls12_crypto_info_chacha20_poly1305) <= SecretBytes::kCapacity);

// Twice the longest key and IV: longer than what one SecretBytes holds.
struct KeyBlock {
  std::array<uint8_t, 2 * (32 + kNonceSize)> bytes;
  ~KeyBlock() { Wipe(bytes.data(), bytes.size()); }
};

// OSSL_PARAM has no const, though these are only read.
OSSL_PARAM OctetParam(const char* name, std::span<const uint8_t> bytes) {
  return OSSL_PARAM_construct_octet_string(name, const_cast<uint8_t*>(bytes.data()), bytes.size());
}

OSSL_PARAM OctetParam(const char* name, std::string_view text) {
  return OSSL_PARAM_construct_octet_string(name, const_cast<char*>(text.data()), text.size());
}

OSSL_PARAM TextParam(const char* name, const char* text) {
  return OSSL_PARAM_construct_utf8_string(name, const_cast<char*>(text), 0);
}

// One of OpenSSL's key derivations, looked up once. What one call has set stays set for the next.
class Kdf {
 public:
  Kdf(OSSL_LIB_CTX* library, const char* name) : name_(name) {
    const EvpKdfPtr kdf(EVP_KDF_fetch(library, name, nullptr));
    if (kdf) context_.reset(EVP_KDF_CTX_new(kdf.get()));
  }

  absl::Status Derive(const OSSL_PARAM params[], std::span<uint8_t> out) {
    if (!context_) return OpensslStatus(absl::StrCat("OpenSSL has no ", name_));
    if (EVP_KDF_derive(context_.get(), out.data(), out.size(), params) != 1) {
      return OpensslStatus(absl::StrCat(name_, " failed"));
    }
    return absl::OkStatus();
  }

 private:
  const char* name_;
  EvpKdfCtxPtr context_;
};

// HKDF-Expand-Label(secret, label, "", out.size()) of RFC 8446 7.1.
class LabelExpander {
 public:
  LabelExpander(OSSL_LIB_CTX* library, const char* digest)
      : kdf_(library, OSSL_KDF_NAME_TLS1_3_KDF), digest_(digest) {}

  absl::Status Expand(const SecretBytes& secret, std::string_view label, std::span<uint8_t> out) {
    const OSSL_PARAM params[] = {
        OctetParam(OSSL_KDF_PARAM_KEY, secret.bytes()),
        OctetParam(OSSL_KDF_PARAM_LABEL, label),
        used_ ? OSSL_PARAM_construct_end() : TextParam(OSSL_KDF_PARAM_DIGEST, digest_),
        TextParam(OSSL_KDF_PARAM_MODE, "EXPAND_ONLY"),
        OctetParam(OSSL_KDF_PARAM_PREFIX, std::string_view("tls13 ")),
        OSSL_PARAM_construct_end(),
    };
    used_ = true;
    return kdf_.Derive(params, out);
  }

 private:
  Kdf kdf_;
  const char* digest_;
  bool used_ = false;
};

// An empty structure with version and suite, and its fields to be filled.
CryptoInfoFields<uint8_t> Begin(TlsVersion version, Suite suite, uint64_t sequence,
                                DirectionKeys& keys) {
  const CryptoInfoLayout layout = LayoutOf(suite);
  const std::span<uint8_t> whole = keys.crypto_info.Resize(layout.size());
  const tls_crypto_info info = {KernelVersion(version), layout.cipher_type};
  std::memcpy(whole.data(), &info, sizeof(info));
  const auto fields = FieldsOf(suite, whole);
  for (size_t i = 0; i < kSequenceSize; ++i) {
    fields.sequence[i] = static_cast<uint8_t>(sequence >> (8 * (kSequenceSize - 1 - i)));
  }
  return fields;
}

absl::StatusOr<DirectionKeys> Tls13Direction(LabelExpander& expander, Suite suite,
                                             const SecretBytes& secret, uint64_t sequence) {
  DirectionKeys keys;
  const auto fields = Begin(TlsVersion::kTls13, suite, sequence, keys);
  RETURN_IF_ERROR(expander.Expand(secret, "key", fields.key));
  SecretBytes write_iv;
  const std::span<uint8_t> iv = write_iv.Resize(kNonceSize);
  RETURN_IF_ERROR(expander.Expand(secret, "iv", iv));
  std::ranges::copy(iv.first(fields.salt.size()), fields.salt.begin());
  std::ranges::copy(iv.last(fields.iv.size()), fields.iv.begin());
  return keys;
}

// The hash of a suite (RFC 8446 B.4).
const char* Tls13Digest(Suite suite) { return suite == Suite::kAes256Gcm ? "SHA384" : "SHA256"; }

// A secret of another length came from another suite's handshake, or was cut.
absl::Status CheckSecrets(OSSL_LIB_CTX* library, const char* digest, const Tls13Secrets& secrets) {
  const EvpMdPtr hash(EVP_MD_fetch(library, digest, nullptr));
  if (!hash) return OpensslStatus(absl::StrCat("OpenSSL has no ", digest));
  const size_t size = static_cast<size_t>(EVP_MD_get_size(hash.get()));
  if (secrets.client.size() != size || secrets.server.size() != size) {
    return absl::InvalidArgumentError(absl::StrCat("traffic secrets of ", secrets.client.size(),
                                                   " and ", secrets.server.size(),
                                                   " bytes do not belong to ", digest));
  }
  return absl::OkStatus();
}

// The AEAD suites have no MAC keys. The fixed IV is the salt for AES-GCM (RFC 5288 3) and the whole
// IV for ChaCha20-Poly1305 (RFC 7905 2).
struct Tls12Side {
  std::span<const uint8_t> key, fixed_iv;
};
struct Tls12Sides {
  Tls12Side client, server;
};

// The order of RFC 5246 6.3.
Tls12Sides Split(std::span<const uint8_t> block, size_t key, size_t iv) {
  return {{block.subspan(0, key), block.subspan(2 * key, iv)},
          {block.subspan(key, key), block.subspan(2 * key + iv, iv)}};
}

DirectionKeys Tls12Direction(Suite suite, const Tls12Side& side,
                             const std::array<uint8_t, 8>& explicit_nonce) {
  DirectionKeys keys;
  const auto fields = Begin(TlsVersion::kTls12, suite, 1, keys);
  std::ranges::copy(side.key, fields.key.begin());
  if (fields.salt.empty()) {
    std::ranges::copy(side.fixed_iv, fields.iv.begin());
  } else {
    std::ranges::copy(side.fixed_iv, fields.salt.begin());
    std::ranges::copy(explicit_nonce, fields.iv.begin());
  }
  return keys;
}

// Counts as OpenSSL and the kernel do: big-endian, wrapping.
std::array<uint8_t, 8> Next(std::array<uint8_t, 8> nonce) {
  for (size_t i = nonce.size(); i > 0; --i) {
    if (++nonce[i - 1] != 0) break;
  }
  return nonce;
}

}  // namespace

const char* VersionName(TlsVersion version) {
  return version == TlsVersion::kTls13 ? "TLSv1.3" : "TLSv1.2";
}

const char* SuiteName(Suite suite) {
  switch (suite) {
    case Suite::kAes128Gcm:
      return "AES-128-GCM";
    case Suite::kAes256Gcm:
      return "AES-256-GCM";
    case Suite::kChaCha20Poly1305:
      return "CHACHA20-POLY1305";
  }
  __builtin_unreachable();
}

std::optional<Suite> SuiteOf(uint16_t cipher_suite) {
  switch (cipher_suite) {
    case 0x1301:  // TLS_AES_128_GCM_SHA256
    case 0xC02B:  // TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256
    case 0xC02F:  // TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256
      return Suite::kAes128Gcm;
    case 0x1302:  // TLS_AES_256_GCM_SHA384
    case 0xC02C:  // TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384
    case 0xC030:  // TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384
      return Suite::kAes256Gcm;
    case 0x1303:  // TLS_CHACHA20_POLY1305_SHA256
    case 0xCCA8:  // TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256
    case 0xCCA9:  // TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256
      return Suite::kChaCha20Poly1305;
    default:
      return std::nullopt;
  }
}

absl::StatusOr<SessionKeys> DeriveTls13(OSSL_LIB_CTX* library, Suite suite, const char* digest,
                                        const Tls13Secrets& secrets, uint64_t tx_sequence,
                                        bool we_are_server) {
  RETURN_IF_ERROR(CheckSecrets(library, digest, secrets));
  const SecretBytes& ours = we_are_server ? secrets.server : secrets.client;
  const SecretBytes& theirs = we_are_server ? secrets.client : secrets.server;
  SessionKeys keys{TlsVersion::kTls13, suite, {}, {}};
  LabelExpander expander(library, digest);
  ASSIGN_OR_RETURN(keys.tx, Tls13Direction(expander, suite, ours, tx_sequence));
  ASSIGN_OR_RETURN(keys.rx, Tls13Direction(expander, suite, theirs, 0));
  return keys;
}

absl::StatusOr<DirectionKeys> DeriveTls13Direction(OSSL_LIB_CTX* library, Suite suite,
                                                   const SecretBytes& secret, uint64_t sequence) {
  LabelExpander expander(library, Tls13Digest(suite));
  return Tls13Direction(expander, suite, secret, sequence);
}

absl::StatusOr<SecretBytes> NextSecret(OSSL_LIB_CTX* library, Suite suite,
                                       const SecretBytes& secret) {
  SecretBytes next;
  RETURN_IF_ERROR(LabelExpander(library, Tls13Digest(suite))
                      .Expand(secret, "traffic upd", next.Resize(secret.size())));
  return next;
}

absl::StatusOr<SessionKeys> DeriveTls12(OSSL_LIB_CTX* library, Suite suite, const char* prf_digest,
                                        const Tls12Secrets& secrets,
                                        std::array<uint8_t, 8> our_finished_explicit_nonce,
                                        bool we_are_server) {
  constexpr size_t kMasterSecretSize = 48;
  if (secrets.master.size() != kMasterSecretSize) {
    return absl::InvalidArgumentError("a TLS 1.2 master secret has 48 bytes");
  }
  const OSSL_PARAM params[] = {
      TextParam(OSSL_KDF_PARAM_DIGEST, prf_digest),
      OctetParam(OSSL_KDF_PARAM_SECRET, secrets.master.bytes()),
      OctetParam(OSSL_KDF_PARAM_SEED, std::string_view("key expansion")),
      OctetParam(OSSL_KDF_PARAM_SEED, secrets.server_random),
      OctetParam(OSSL_KDF_PARAM_SEED, secrets.client_random),
      OSSL_PARAM_construct_end(),
  };
  const CryptoInfoLayout layout = LayoutOf(suite);
  const size_t iv_size = layout.salt != 0 ? layout.salt : layout.iv;
  KeyBlock storage;
  const auto block = std::span(storage.bytes).first(2 * (layout.key + iv_size));
  RETURN_IF_ERROR(Kdf(library, OSSL_KDF_NAME_TLS1_PRF).Derive(params, block));
  const Tls12Sides sides = Split(block, layout.key, iv_size);
  const Tls12Side& ours = we_are_server ? sides.server : sides.client;
  const Tls12Side& theirs = we_are_server ? sides.client : sides.server;
  // A receiver takes the explicit nonce from each record.
  return SessionKeys{TlsVersion::kTls12, suite,
                     Tls12Direction(suite, ours, Next(our_finished_explicit_nonce)),
                     Tls12Direction(suite, theirs, {})};
}

}  // namespace tlsbroker
