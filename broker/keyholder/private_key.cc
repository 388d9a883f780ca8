// SPDX-License-Identifier: Apache-2.0
#include "broker/keyholder/private_key.h"

#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/rsa.h>

#include <algorithm>
#include <array>
#include <optional>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "broker/support/status.h"

namespace tlsbroker {
namespace {

using signing::KeyType;

constexpr char kWanted[] = "RSA and RSA-PSS of 2048 bits or more, EC P-256, EC P-384 and Ed25519";

std::string Describe(const EVP_PKEY* key) {
  if (key == nullptr) return "unknown";
  const char* name = EVP_PKEY_get0_type_name(key);
  std::string type = name != nullptr ? name : "unknown";
  if (EVP_PKEY_is_a(key, "RSA") || EVP_PKEY_is_a(key, "RSA-PSS")) {
    return absl::StrCat(type, " ", EVP_PKEY_get_bits(key));
  }
  std::array<char, 64> group{};
  size_t size = 0;
  if (!EVP_PKEY_get_group_name(key, group.data(), group.size(), &size)) return type;
  const char* nist = EC_curve_nid2nist(OBJ_sn2nid(group.data()));
  return absl::StrCat(type, " ", nist != nullptr ? nist : group.data());
}

std::optional<KeyType> TypeOf(const EVP_PKEY* key) {
  if (EVP_PKEY_is_a(key, "ED25519")) return KeyType::kEd25519;
  if (EVP_PKEY_is_a(key, "RSA-PSS")) return KeyType::kRsaPss;
  if (EVP_PKEY_is_a(key, "RSA")) return KeyType::kRsa;
  const std::string description = Describe(key);
  if (description == "EC P-256") return KeyType::kEcP256;
  if (description == "EC P-384") return KeyType::kEcP384;
  return std::nullopt;
}

}  // namespace

std::string KeyDescription(const EVP_PKEY* key) { return Describe(key); }

absl::StatusOr<PrivateKey> PrivateKey::Create(EvpPkeyPtr key, X509* leaf) {
  const std::string description = Describe(key.get());
  const auto type = TypeOf(key.get());
  if (!type) {
    return absl::InvalidArgumentError(
        absl::StrCat("the private key (", description, ") is of no supported type: ", kWanted));
  }
  const bool rsa = type == KeyType::kRsa || type == KeyType::kRsaPss;
  if (rsa && EVP_PKEY_get_bits(key.get()) < kMinRsaBits) {
    return absl::InvalidArgumentError(absl::StrCat("the private key (", description,
                                                   ") is too short: at least ", kMinRsaBits,
                                                   " bits are needed"));
  }
  if (X509_check_private_key(leaf, key.get()) != 1) {
    ERR_clear_error();
    return absl::InvalidArgumentError(absl::StrCat("the private key (", description,
                                                   ") does not match the certificate (",
                                                   Describe(X509_get0_pubkey(leaf)), ")"));
  }
  PrivateKey result(std::move(key), *type);
  RETURN_IF_ERROR(result.TryOut(leaf));
  return result;
}

namespace {

// How EVP has to be set up for a SignatureScheme, RFC 8446 section 4.2.3.
struct Parameters {
  uint16_t scheme;
  const char* digest;  // nullptr: part of the algorithm
  int rsa_padding;     // 0: not RSA
};
constexpr Parameters kParameters[] = {
    {signing::schemes::kEcdsaSecp256r1Sha256, "SHA2-256", 0},
    {signing::schemes::kEcdsaSecp384r1Sha384, "SHA2-384", 0},
    {signing::schemes::kEcdsaSecp521r1Sha512, "SHA2-512", 0},
    {signing::schemes::kEd25519, nullptr, 0},
    {signing::schemes::kRsaPssRsaeSha256, "SHA2-256", RSA_PKCS1_PSS_PADDING},
    {signing::schemes::kRsaPssRsaeSha384, "SHA2-384", RSA_PKCS1_PSS_PADDING},
    {signing::schemes::kRsaPssRsaeSha512, "SHA2-512", RSA_PKCS1_PSS_PADDING},
    {signing::schemes::kRsaPssPssSha256, "SHA2-256", RSA_PKCS1_PSS_PADDING},
    {signing::schemes::kRsaPssPssSha384, "SHA2-384", RSA_PKCS1_PSS_PADDING},
    {signing::schemes::kRsaPssPssSha512, "SHA2-512", RSA_PKCS1_PSS_PADDING},
    {signing::schemes::kRsaPkcs1Sha256, "SHA2-256", RSA_PKCS1_PADDING},
    {signing::schemes::kRsaPkcs1Sha384, "SHA2-384", RSA_PKCS1_PADDING},
    {signing::schemes::kRsaPkcs1Sha512, "SHA2-512", RSA_PKCS1_PADDING},
};

// The same for signing and verifying. RFC 8446: the salt of PSS is as long as the digest.
bool Configure(EVP_PKEY_CTX* context, const Parameters& parameters) {
  if (parameters.rsa_padding == 0) return true;
  if (EVP_PKEY_CTX_set_rsa_padding(context, parameters.rsa_padding) <= 0) return false;
  return parameters.rsa_padding != RSA_PKCS1_PSS_PADDING ||
         EVP_PKEY_CTX_set_rsa_pss_saltlen(context, RSA_PSS_SALTLEN_DIGEST) > 0;
}

// `prepared` is empty the first time. Its algorithm may belong to a provider that cannot copy
// contexts: then each signature has to find the algorithm again.
bool Begin(EVP_MD_CTX* context, EvpMdCtxPtr& prepared, const Parameters& parameters,
           EVP_PKEY* key) {
  if (prepared && EVP_MD_CTX_copy_ex(context, prepared.get()) == 1) return true;
  EVP_PKEY_CTX* key_context = nullptr;
  if (EVP_DigestSignInit_ex(context, &key_context, parameters.digest, nullptr, nullptr, key,
                            nullptr) != 1 ||
      !Configure(key_context, parameters)) {
    return false;
  }
  prepared.reset(EVP_MD_CTX_new());
  if (EVP_MD_CTX_copy_ex(prepared.get(), context) != 1) {
    prepared.reset();
    ERR_clear_error();
  }
  return true;
}

bool Verify(EVP_PKEY* key, const Parameters& parameters, wire::Bytes signature,
            wire::Bytes content) {
  const EvpMdCtxPtr context(EVP_MD_CTX_new());
  EVP_PKEY_CTX* key_context = nullptr;
  return EVP_DigestVerifyInit_ex(context.get(), &key_context, parameters.digest, nullptr, nullptr,
                                 key, nullptr) == 1 &&
         Configure(key_context, parameters) &&
         EVP_DigestVerify(context.get(), signature.data(), signature.size(), content.data(),
                          content.size()) == 1;
}

// A scheme with which this type of key can sign in any version of TLS. An RSA-PSS key may be
// restricted to one digest, which its get_default_digest tells.
uint16_t UsualScheme(KeyType type, EVP_PKEY* key) {
  switch (type) {
    case KeyType::kRsa:
      return signing::schemes::kRsaPssRsaeSha256;
    case KeyType::kEcP256:
      return signing::schemes::kEcdsaSecp256r1Sha256;
    case KeyType::kEcP384:
      return signing::schemes::kEcdsaSecp384r1Sha384;
    case KeyType::kEd25519:
      return signing::schemes::kEd25519;
    case KeyType::kRsaPss:
      break;
  }
  std::array<char, 64> digest{};
  (void)EVP_PKEY_get_default_digest_name(key, digest.data(), digest.size());
  if (absl::StrContains(digest.data(), "384")) return signing::schemes::kRsaPssPssSha384;
  if (absl::StrContains(digest.data(), "512")) return signing::schemes::kRsaPssPssSha512;
  return signing::schemes::kRsaPssPssSha256;
}

}  // namespace

absl::StatusOr<std::vector<uint8_t>> PrivateKey::Sign(uint16_t scheme, wire::Bytes content) const {
  const auto* parameters = std::ranges::find(kParameters, scheme, &Parameters::scheme);
  if (parameters == std::end(kParameters)) return absl::InvalidArgumentError("unknown scheme");
  const EvpMdCtxPtr context(EVP_MD_CTX_new());
  if (!Begin(context.get(), prepared_[scheme], *parameters, key_.get())) {
    return OpensslStatus("the private key cannot sign with this scheme");
  }
  std::vector<uint8_t> signature(static_cast<size_t>(EVP_PKEY_get_size(key_.get())));
  size_t size = signature.size();
  if (EVP_DigestSign(context.get(), signature.data(), &size, content.data(), content.size()) != 1) {
    return OpensslStatus("the private key did not sign");
  }
  signature.resize(size);
  return signature;
}

absl::Status PrivateKey::TryOut(X509* leaf) const {
  const uint16_t scheme = UsualScheme(type_, key_.get());
  const std::array<uint8_t, 32> content{};
  ASSIGN_OR_RETURN(const std::vector<uint8_t> signature, Sign(scheme, content));
  const auto* parameters = std::ranges::find(kParameters, scheme, &Parameters::scheme);
  if (!Verify(X509_get0_pubkey(leaf), *parameters, signature, content)) {
    return OpensslStatus("what the private key signs does not verify with the certificate");
  }
  return absl::OkStatus();
}

}  // namespace tlsbroker
