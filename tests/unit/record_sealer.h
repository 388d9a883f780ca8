// SPDX-License-Identifier: Apache-2.0
// Records of TLS 1.2 and 1.3 with AES-128-GCM and the keys of ktls_pair.h, made and opened without
// a TLS library: for a peer that sends what no library or kernel would.

#ifndef TLSBROKER_TESTS_UNIT_RECORD_SEALER_H_
#define TLSBROKER_TESTS_UNIT_RECORD_SEALER_H_

#include <gtest/gtest.h>
#include <linux/tls.h>
#include <openssl/evp.h>

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

namespace tlsbroker {

class RecordSealer {
 public:
  explicit RecordSealer(uint16_t version) : tls13_(version == TLS_1_3_VERSION) {}

  std::string Seal(uint8_t type, std::string_view content) {
    const std::string number = Number(sealed_++);
    std::string plain(content);
    if (tls13_) plain += static_cast<char>(type);
    const std::string explicit_nonce = tls13_ ? "" : number;
    const std::string header =
        Header(tls13_ ? 23 : type, explicit_nonce.size() + plain.size() + kTag);
    const std::string associated = tls13_ ? header : number + Header(type, plain.size());
    return header + explicit_nonce + Gcm(true, number, associated, plain, "");
  }

  // The content of the first record in `wire`, which it takes away from there, and its type. An
  // empty one and 0 if there is no such record.
  std::string Open(std::string& wire, uint8_t& type) {
    type = 0;
    if (wire.size() < 5) return "";
    const size_t size = static_cast<uint8_t>(wire[3]) << 8 | static_cast<uint8_t>(wire[4]);
    const size_t skipped = tls13_ ? 0 : 8;
    if (wire.size() < 5 + size || size < skipped + kTag) return "";
    const std::string header = wire.substr(0, 5), body = wire.substr(5, size);
    wire.erase(0, 5 + size);
    const std::string number = Number(opened_++);
    const std::string sealed = body.substr(skipped, size - skipped - kTag);
    const std::string associated =
        tls13_ ? header : number + Header(static_cast<uint8_t>(header[0]), sealed.size());
    const std::string nonce = tls13_ ? number : body.substr(0, 8);
    std::string plain = Gcm(false, nonce, associated, sealed, body.substr(size - kTag));
    type = static_cast<uint8_t>(header[0]);
    if (tls13_ && !plain.empty()) {
      type = static_cast<uint8_t>(plain.back());
      plain.pop_back();
    }
    return plain;
  }

 private:
  static constexpr size_t kTag = 16;

  static std::string Number(uint64_t number) {
    std::string text;
    for (int shift = 56; shift >= 0; shift -= 8) text += static_cast<char>(number >> shift);
    return text;
  }
  static std::string Header(uint8_t type, size_t size) {
    return {static_cast<char>(type), 3, 3, static_cast<char>(size >> 8), static_cast<char>(size)};
  }
  static const uint8_t* Bytes(const std::string& text) {
    return reinterpret_cast<const uint8_t*>(text.data());
  }

  // The salt of the keys is 0, and so is the rest of the nonce in TLS 1.3, to which the record's
  // number is added.
  static std::string Gcm(bool seals, const std::string& nonce, const std::string& associated,
                         const std::string& data, std::string tag) {
    const std::unique_ptr<EVP_CIPHER_CTX, decltype(&EVP_CIPHER_CTX_free)> context(
        EVP_CIPHER_CTX_new(), EVP_CIPHER_CTX_free);
    const std::string key(16, 'k'), whole_nonce = std::string(4, '\0') + nonce;
    std::string out(data.size(), '\0');
    auto* output = reinterpret_cast<uint8_t*>(out.data());
    int size = 0;
    EVP_CipherInit_ex(context.get(), EVP_aes_128_gcm(), nullptr, Bytes(key), Bytes(whole_nonce),
                      seals ? 1 : 0);
    EVP_CipherUpdate(context.get(), nullptr, &size, Bytes(associated),
                     static_cast<int>(associated.size()));
    EVP_CipherUpdate(context.get(), output, &size, Bytes(data), static_cast<int>(data.size()));
    if (!seals) EVP_CIPHER_CTX_ctrl(context.get(), EVP_CTRL_AEAD_SET_TAG, kTag, tag.data());
    std::array<uint8_t, kTag> rest;
    EXPECT_EQ(EVP_CipherFinal_ex(context.get(), rest.data(), &size), 1) << "does not authenticate";
    if (!seals) return out;
    tag.resize(kTag);
    EVP_CIPHER_CTX_ctrl(context.get(), EVP_CTRL_AEAD_GET_TAG, kTag, tag.data());
    return out + tag;
  }

  bool tls13_;
  uint64_t sealed_ = 0;
  uint64_t opened_ = 0;
};

}  // namespace tlsbroker

#endif  // TLSBROKER_TESTS_UNIT_RECORD_SEALER_H_
