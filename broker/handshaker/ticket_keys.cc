// SPDX-License-Identifier: Apache-2.0
#include "broker/handshaker/ticket_keys.h"

#include <openssl/core_names.h>
#include <openssl/evp.h>
#include <openssl/params.h>
#include <openssl/rand.h>

#include <algorithm>
#include <cstring>

#include "broker/support/secret_bytes.h"

namespace tlsbroker {
namespace {

// The return values of the callback of SSL_CTX_set_tlsext_ticket_key_evp_cb(3).
constexpr int kError = -1;
constexpr int kNoKey = 0;  // full handshake
constexpr int kUse = 1;
constexpr int kUseAndRenew = 2;

constexpr int kIvSize = 16;  // AES-CBC block

int ContextIndex() {
  static const int index = SSL_CTX_get_ex_new_index(0, nullptr, nullptr, nullptr, nullptr);
  return index;
}

int RefusedIndex() {
  static const int index = SSL_get_ex_new_index(0, nullptr, nullptr, nullptr, nullptr);
  return index;
}

// Fetched once: with EVP_aes_256_cbc() OpenSSL would look the cipher up again for each ticket.
const EVP_CIPHER* TicketCipher() {
  static EVP_CIPHER* const cipher = EVP_CIPHER_fetch(nullptr, "AES-256-CBC", nullptr);
  return cipher;
}

bool InitMac(EVP_MAC_CTX* mac, const supervision::TicketKey& key) {
  char digest[] = "SHA256";
  OSSL_PARAM params[] = {
      OSSL_PARAM_construct_octet_string(OSSL_MAC_PARAM_KEY, const_cast<uint8_t*>(key.mac.data()),
                                        key.mac.size()),
      OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, digest, 0),
      OSSL_PARAM_construct_end()};
  return EVP_MAC_CTX_set_params(mac, params) == 1;
}

}  // namespace

void TicketSealer::Wipe() {
  tlsbroker::Wipe(keys_.data(), keys_.size() * sizeof(supervision::TicketKey));
  keys_.clear();
}

void TicketSealer::Set(supervision::TicketKeys keys) {
  Wipe();
  keys_.swap(keys.keys);
}

void TicketSealer::Attach(SSL_CTX* context) const {
  SSL_CTX_set_ex_data(context, ContextIndex(), const_cast<TicketSealer*>(this));
  SSL_CTX_set_tlsext_ticket_key_evp_cb(context, &TicketSealer::Callback);
}

void TicketSealer::Refuse(SSL* ssl) { SSL_set_ex_data(ssl, RefusedIndex(), ssl); }

int TicketSealer::Callback(SSL* ssl, unsigned char* name, unsigned char* iv, EVP_CIPHER_CTX* cipher,
                           EVP_MAC_CTX* mac, int encrypt) {
  SSL_CTX* context = SSL_get_SSL_CTX(ssl);
  if (SSL_get_ex_data(ssl, RefusedIndex()) != nullptr) return kError;
  const auto* sealer =
      static_cast<const TicketSealer*>(SSL_CTX_get_ex_data(context, ContextIndex()));
  if (sealer == nullptr || sealer->keys_.empty()) return kError;
  if (encrypt != 0) return sealer->Seal(name, iv, cipher, mac);
  // A ticket of TLS 1.3 is meant to be used once (RFC 8446 appendix C.4), so the client gets the
  // next one.
  const int opened = sealer->Open(name, iv, cipher, mac);
  return opened == kUse && SSL_version(ssl) == TLS1_3_VERSION ? kUseAndRenew : opened;
}

int TicketSealer::Seal(unsigned char* name, unsigned char* iv, EVP_CIPHER_CTX* cipher,
                       EVP_MAC_CTX* mac) const {
  const supervision::TicketKey& key = keys_.front();
  if (RAND_bytes(iv, kIvSize) != 1) return kError;
  std::memcpy(name, key.name.data(), key.name.size());
  if (EVP_EncryptInit_ex(cipher, TicketCipher(), nullptr, key.cipher.data(), iv) != 1)
    return kError;
  return InitMac(mac, key) ? kUse : kError;
}

int TicketSealer::Open(const unsigned char* name, const unsigned char* iv, EVP_CIPHER_CTX* cipher,
                       EVP_MAC_CTX* mac) const {
  const auto key = std::ranges::find_if(keys_, [&](const supervision::TicketKey& candidate) {
    return std::memcmp(name, candidate.name.data(), candidate.name.size()) == 0;
  });
  if (key == keys_.end()) return kNoKey;
  if (EVP_DecryptInit_ex(cipher, TicketCipher(), nullptr, key->cipher.data(), iv) != 1)
    return kError;
  if (!InitMac(mac, *key)) return kError;
  return key == keys_.begin() ? kUse : kUseAndRenew;
}

}  // namespace tlsbroker
