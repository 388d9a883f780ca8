// SPDX-License-Identifier: Apache-2.0
// Record protection of RFC 8446 5.2 (TLS 1.3), RFC 5288 (AES-GCM in 1.2) and RFC 7905
// (ChaCha20-Poly1305 in 1.2), written here except for the AEAD. See the header.

#include "broker/handshaker/record_cipher.h"

#include <openssl/evp.h>

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "broker/support/status.h"

namespace tlsbroker {
namespace {

constexpr size_t kTagSize = 16;
constexpr size_t kExplicitNonceSize = 8;

const unsigned char* Bytes(std::string_view text) {
  return reinterpret_cast<const unsigned char*>(text.data());
}
unsigned char* Bytes(char* text) { return reinterpret_cast<unsigned char*>(text); }

std::string BigEndian(uint64_t number) {
  std::string out(sizeof(number), '\0');
  for (size_t i = out.size(); i-- > 0; number >>= 8) out[i] = static_cast<char>(number & 0xff);
  return out;
}

uint64_t FromBigEndian(std::span<const uint8_t> bytes) {
  uint64_t number = 0;
  for (const uint8_t byte : bytes) number = number << 8 | byte;
  return number;
}

}  // namespace

absl::StatusOr<RecordCipher> RecordCipher::Create(OSSL_LIB_CTX* library, TlsVersion version,
                                                  Suite suite, const DirectionKeys& keys) {
  RecordCipher self;
  self.cipher_.reset(EVP_CIPHER_fetch(library, SuiteName(suite), nullptr));
  self.context_.reset(EVP_CIPHER_CTX_new());
  if (!self.cipher_ || !self.context_) {
    return OpensslStatus(absl::StrCat("OpenSSL has no ", SuiteName(suite)));
  }
  if (keys.crypto_info.size() != LayoutOf(suite).size()) {
    return absl::InvalidArgumentError("keys of another suite");
  }
  self.version_ = version;
  self.suite_ = suite;
  self.crypto_info_ = SecretBytes(keys.crypto_info.bytes());
  self.sequence_ = FromBigEndian(FieldsOf(suite, self.crypto_info_.bytes()).sequence);
  return self;
}

bool RecordCipher::has_explicit_nonce() const {
  return version_ == TlsVersion::kTls12 && suite_ != Suite::kChaCha20Poly1305;
}

size_t RecordCipher::SealedSize(size_t text) const {
  const size_t inner_type = version_ == TlsVersion::kTls13 ? 1 : 0;
  const size_t nonce = has_explicit_nonce() ? kExplicitNonceSize : 0;
  return kRecordHeaderSize + nonce + text + inner_type + kTagSize;
}

std::string RecordCipher::Header(uint8_t type, size_t body) const {
  return {static_cast<char>(type), 3, 3, static_cast<char>(body >> 8), static_cast<char>(body)};
}

// TLS 1.3 protects the header as sent; 1.2 the record number and the length of the text.
std::string RecordCipher::AdditionalData(uint8_t type, size_t text, size_t body) const {
  if (version_ == TlsVersion::kTls13) return Header(type, body);
  return BigEndian(sequence_) + Header(type, text);
}

RecordCipher::Nonce RecordCipher::NonceOf(std::string_view explicit_part) const {
  const auto fields = FieldsOf(suite_, crypto_info_.bytes());
  Nonce nonce;
  const auto rest = std::ranges::copy(fields.salt, nonce.begin()).out;
  if (has_explicit_nonce()) {
    std::ranges::copy(explicit_part, rest);
    return nonce;
  }
  std::ranges::copy(fields.iv, rest);
  const std::string number = BigEndian(sequence_);
  for (size_t i = 0; i < number.size(); ++i) {
    nonce[nonce.size() - number.size() + i] ^= static_cast<uint8_t>(number[i]);
  }
  return nonce;
}

std::string RecordCipher::NextExplicitNonce() const {
  if (!has_explicit_nonce()) return {};
  return BigEndian(FromBigEndian(FieldsOf(suite_, crypto_info_.bytes()).iv) + sealed_);
}

bool RecordCipher::Crypt(bool seal, const Nonce& nonce, std::string_view additional_data,
                         std::string_view in, char* out, char* tag) {
  EVP_CIPHER_CTX* context = context_.get();
  const auto key = FieldsOf(suite_, crypto_info_.bytes()).key;
  int size = 0;
  return EVP_CipherInit_ex2(context, cipher_.get(), key.data(), nonce.data(), seal, nullptr) == 1 &&
         (seal || EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_AEAD_SET_TAG, kTagSize, tag) == 1) &&
         EVP_CipherUpdate(context, nullptr, &size, Bytes(additional_data),
                          static_cast<int>(additional_data.size())) == 1 &&
         EVP_CipherUpdate(context, Bytes(out), &size, Bytes(in), static_cast<int>(in.size())) ==
             1 &&
         EVP_CipherFinal_ex(context, Bytes(out) + size, &size) == 1 &&
         (!seal || EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_AEAD_GET_TAG, kTagSize, tag) == 1);
}

absl::StatusOr<std::string> RecordCipher::Seal(uint8_t type, std::string_view text) {
  std::string inner(text);
  if (version_ == TlsVersion::kTls13) {
    inner.push_back(static_cast<char>(type));
    type = kApplicationDataType;
  }
  const std::string explicit_nonce = NextExplicitNonce();
  const size_t body = explicit_nonce.size() + inner.size() + kTagSize;
  std::string record = Header(type, body) + explicit_nonce;
  const size_t start = record.size();
  record.resize(kRecordHeaderSize + body);
  if (!Crypt(true, NonceOf(explicit_nonce), AdditionalData(type, inner.size(), body), inner,
             &record[start], &record[start + inner.size()])) {
    return OpensslStatus("sealing a record failed");
  }
  ++sequence_;
  ++sealed_;
  return record;
}

absl::StatusOr<Record> RecordCipher::Open(std::string_view record) {
  const size_t nonce_size = has_explicit_nonce() ? kExplicitNonceSize : 0;
  if (record.size() < kRecordHeaderSize + nonce_size + kTagSize) {
    return absl::DataLossError("shorter than a record");
  }
  const auto type = static_cast<uint8_t>(record[0]);
  const size_t body = record.size() - kRecordHeaderSize;
  if (record.substr(0, kRecordHeaderSize) != Header(type, body)) {
    return absl::DataLossError("not a record of that size");
  }
  const std::string_view explicit_nonce = record.substr(kRecordHeaderSize, nonce_size);
  const std::string_view sealed = record.substr(kRecordHeaderSize + nonce_size);
  std::string tag(sealed.substr(sealed.size() - kTagSize));
  std::string text(sealed.size() - kTagSize, '\0');
  if (!Crypt(false, NonceOf(explicit_nonce), AdditionalData(type, text.size(), body),
             sealed.substr(0, text.size()), text.data(), tag.data())) {
    return absl::DataLossError("the record was not sealed with this key and number");
  }
  ++sequence_;
  if (version_ == TlsVersion::kTls12) return Record{type, std::move(text)};
  return TakeInnerType(std::move(text));
}

// RFC 8446 5.4: zeros after the type are padding.
absl::StatusOr<Record> RecordCipher::TakeInnerType(std::string text) const {
  const size_t last = text.find_last_not_of('\0');
  if (last == std::string::npos) return absl::DataLossError("a record without a type");
  const auto type = static_cast<uint8_t>(text[last]);
  text.resize(last);
  return Record{type, std::move(text)};
}

}  // namespace tlsbroker
