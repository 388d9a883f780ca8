// SPDX-License-Identifier: Apache-2.0
#include "broker/handshaker/rekey_token.h"

#include <openssl/core_names.h>
#include <openssl/evp.h>
#include <openssl/kdf.h>
#include <openssl/params.h>
#include <openssl/rand.h>

#include <algorithm>
#include <array>
#include <string_view>
#include <utility>

#include "broker/support/openssl_ptr.h"
#include "broker/support/status.h"

namespace tlsbroker {
namespace {

constexpr size_t kSaltSize = 32;
constexpr size_t kTokenTagSize = 16;
constexpr size_t kKeySize = 32;
constexpr std::array<uint8_t, 12> kNonce{};  // of a key that is used once
constexpr uint8_t kVersion = 2;

// Version, suite, role, cookie, then both secrets of one size.
constexpr size_t kHeaderSize = 3 + sizeof(uint64_t);
constexpr size_t kMaxSecret = 48;

// The content in the clear, wiped at the end.
struct Plain {
  std::array<uint8_t, kHeaderSize + 2 * kMaxSecret> bytes{};
  size_t size = 0;
  ~Plain() { Wipe(bytes.data(), bytes.size()); }
  Plain() = default;
  Plain(const Plain&) = delete;
  Plain& operator=(const Plain&) = delete;
};

// HKDF-Expand alone: the sealing key is random itself (RFC 5869 section 3.3).
absl::Status DeriveKey(OSSL_LIB_CTX* library, const SecretBytes& sealing,
                       std::span<const uint8_t> salt, SecretBytes& key) {
  const EvpKdfPtr kdf(EVP_KDF_fetch(library, OSSL_KDF_NAME_HKDF, nullptr));
  const EvpKdfCtxPtr context(kdf ? EVP_KDF_CTX_new(kdf.get()) : nullptr);
  char digest[] = "SHA256";
  char mode[] = "EXPAND_ONLY";
  constexpr std::string_view kLabel = "tlsbroker rekey token";
  std::array<uint8_t, kLabel.size() + kSaltSize> info{};
  std::ranges::copy(salt, std::ranges::copy(kLabel, info.begin()).out);
  const auto octets = [](const char* name, const void* data, size_t size) {
    return OSSL_PARAM_construct_octet_string(name, const_cast<void*>(data), size);
  };
  const OSSL_PARAM params[] = {
      OSSL_PARAM_construct_utf8_string(OSSL_KDF_PARAM_MODE, mode, 0),
      OSSL_PARAM_construct_utf8_string(OSSL_KDF_PARAM_DIGEST, digest, 0),
      octets(OSSL_KDF_PARAM_KEY, sealing.bytes().data(), sealing.size()),
      octets(OSSL_KDF_PARAM_INFO, info.data(), info.size()),
      OSSL_PARAM_construct_end(),
  };
  const auto out = key.Resize(kKeySize);
  if (!context || EVP_KDF_derive(context.get(), out.data(), out.size(), params) != 1) {
    return OpensslStatus("HKDF");
  }
  return absl::OkStatus();
}

// Encrypts or decrypts in one call, in place; `tag` is written when sealing and checked when
// opening.
absl::Status Crypt(OSSL_LIB_CTX* library, bool seal, const SecretBytes& key,
                   std::span<const uint8_t> in, uint8_t* out, std::span<uint8_t> tag) {
  const EvpCipherPtr cipher(EVP_CIPHER_fetch(library, "AES-256-GCM", nullptr));
  const EvpCipherCtxPtr context(EVP_CIPHER_CTX_new());
  int size = 0;
  if (!cipher || !context ||
      EVP_CipherInit_ex2(context.get(), cipher.get(), key.bytes().data(), kNonce.data(),
                         seal ? 1 : 0, nullptr) != 1 ||
      EVP_CipherUpdate(context.get(), out, &size, in.data(), static_cast<int>(in.size())) != 1) {
    return OpensslStatus("AES-256-GCM");
  }
  const int tag_size = static_cast<int>(tag.size());
  if (!seal &&
      EVP_CIPHER_CTX_ctrl(context.get(), EVP_CTRL_AEAD_SET_TAG, tag_size, tag.data()) != 1) {
    return OpensslStatus("AES-256-GCM");
  }
  if (EVP_CipherFinal_ex(context.get(), out + size, &size) != 1) {
    return absl::PermissionDeniedError("the token is not ours, or it was altered");
  }
  if (seal &&
      EVP_CIPHER_CTX_ctrl(context.get(), EVP_CTRL_AEAD_GET_TAG, tag_size, tag.data()) != 1) {
    return OpensslStatus("AES-256-GCM");
  }
  return absl::OkStatus();
}

void Write(const TokenContent& content, Plain& plain) {
  uint8_t* at = plain.bytes.data();
  *at++ = kVersion;
  *at++ = static_cast<uint8_t>(content.suite);
  *at++ = content.we_are_server ? 1 : 0;
  for (int shift = 56; shift >= 0; shift -= 8)
    *at++ = static_cast<uint8_t>(content.cookie >> shift);
  at = std::ranges::copy(content.secrets.client.bytes(), at).out;
  at = std::ranges::copy(content.secrets.server.bytes(), at).out;
  plain.size = static_cast<size_t>(at - plain.bytes.data());
}

TokenContent Read(const Plain& plain) {
  const uint8_t* at = plain.bytes.data() + 1;
  TokenContent content;
  content.suite = static_cast<Suite>(*at++);
  content.we_are_server = *at++ != 0;
  for (int i = 0; i < 8; ++i) content.cookie = content.cookie << 8 | *at++;
  const size_t size = (plain.size - kHeaderSize) / 2;
  content.secrets.client = SecretBytes(std::span(at, size));
  content.secrets.server = SecretBytes(std::span(at + size, size));
  return content;
}

}  // namespace

absl::StatusOr<std::vector<uint8_t>> SealToken(OSSL_LIB_CTX* library, const SecretBytes& sealing,
                                               const TokenContent& content) {
  Plain plain;
  Write(content, plain);
  std::vector<uint8_t> token(kSaltSize + plain.size + kTokenTagSize);
  const std::span<uint8_t> whole(token);
  const auto salt = whole.first(kSaltSize);
  if (RAND_bytes_ex(library, salt.data(), salt.size(), 0) != 1) return OpensslStatus("RAND_bytes");
  SecretBytes key;
  RETURN_IF_ERROR(DeriveKey(library, sealing, salt, key));
  RETURN_IF_ERROR(Crypt(library, /*seal=*/true, key, std::span(plain.bytes).first(plain.size),
                        token.data() + kSaltSize, whole.last(kTokenTagSize)));
  return token;
}

absl::StatusOr<TokenContent> OpenToken(OSSL_LIB_CTX* library, const SecretBytes& sealing,
                                       std::span<const uint8_t> token) {
  Plain plain;
  plain.size = token.size() - std::min(token.size(), kSaltSize + kTokenTagSize);
  if (plain.size != kHeaderSize + 2 * 32 && plain.size != kHeaderSize + 2 * 48) {
    return absl::InvalidArgumentError("the token has a wrong size");
  }
  std::array<uint8_t, kTokenTagSize> tag;
  std::ranges::copy(token.last(kTokenTagSize), tag.begin());
  SecretBytes key;
  RETURN_IF_ERROR(DeriveKey(library, sealing, token.first(kSaltSize), key));
  RETURN_IF_ERROR(Crypt(library, /*seal=*/false, key, token.subspan(kSaltSize, plain.size),
                        plain.bytes.data(), tag));
  if (plain.bytes[0] != kVersion) return absl::InvalidArgumentError("a token of another version");
  return Read(plain);
}

}  // namespace tlsbroker
