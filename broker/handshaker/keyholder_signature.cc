// SPDX-License-Identifier: Apache-2.0
// The signature half of the provider: provider-signature(7). Only the one-shot "digest sign" of
// EVP_DigestSign, which libssl uses for handshakes: the keyholder gets the whole content and never
// a hash. It cannot verify, so that verification stays with the other providers.

#include <openssl/core_dispatch.h>
#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/params.h>
#include <openssl/rsa.h>
#include <string.h>

#include <algorithm>
#include <array>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "broker/handshaker/keyholder_algorithms.h"
#include "protocol/signing.h"

namespace tlsbroker::keyholder {
namespace {

// The place of a digest in the lists of schemes below.
enum class Digest { kNone = -1, kSha256 = 0, kSha384 = 1, kSha512 = 2 };
using Family = std::array<uint16_t, 3>;

namespace schemes = signing::schemes;
constexpr Family kEcdsa = {schemes::kEcdsaSecp256r1Sha256, schemes::kEcdsaSecp384r1Sha384,
                           schemes::kEcdsaSecp521r1Sha512};
constexpr Family kPkcs1 = {schemes::kRsaPkcs1Sha256, schemes::kRsaPkcs1Sha384,
                           schemes::kRsaPkcs1Sha512};
constexpr Family kPssRsae = {schemes::kRsaPssRsaeSha256, schemes::kRsaPssRsaeSha384,
                             schemes::kRsaPssRsaeSha512};
constexpr Family kPssPss = {schemes::kRsaPssPssSha256, schemes::kRsaPssPssSha384,
                            schemes::kRsaPssPssSha512};

struct Operation {
  ProviderContext* provider;
  const Key* key = nullptr;  // outlives the operation: EVP holds its key
  Digest digest = Digest::kNone;
  bool pss = false;
};

// The caller of EVP sees the text with ERR_get_error_all.
int Fail(const std::string& why) {
  ERR_raise_data(ERR_LIB_USER, ERR_R_OPERATION_FAIL, "%s", why.c_str());
  return 0;
}

void* NewContext(void* provider, const char*) {
  return new Operation{static_cast<ProviderContext*>(provider)};
}

void FreeContext(void* operation) { delete static_cast<Operation*>(operation); }

// Compares the name with those that OpenSSL uses (OSSL_DIGEST_NAME_*, and the old ones of
// OBJ_nid2sn(3)) and does not fetch the digest: libssl asks twice in each handshake, and fetching
// would cost more than everything else here.
bool FindDigest(std::string_view name, Digest& digest) {
  struct Names {
    Digest digest;
    std::array<std::string_view, 3> all;
  };
  static constexpr Names kNames[] = {{Digest::kSha256, {"SHA2-256", "SHA-256", "SHA256"}},
                                     {Digest::kSha384, {"SHA2-384", "SHA-384", "SHA384"}},
                                     {Digest::kSha512, {"SHA2-512", "SHA-512", "SHA512"}}};
  const auto found = std::ranges::find_if(kNames, [&](const Names& each) {
    return std::ranges::find(each.all, name) != each.all.end();
  });
  if (found == std::end(kNames)) return false;
  digest = found->digest;
  return true;
}

bool IsType(const Operation& operation, std::string_view type) {
  return operation.key->type == type;
}

// Both parameters come as an integer or, since 3.0, as a name. The type is looked at first: a
// failed OSSL_PARAM_get leaves an entry in the error queue, which SSL_get_error takes for a failed
// handshake.
std::string_view Name(const OSSL_PARAM& param) {
  if (param.data_type != OSSL_PARAM_UTF8_STRING || param.data == nullptr) return {};
  const auto* text = static_cast<const char*>(param.data);
  return {text, strnlen(text, param.data_size)};
}

std::optional<int> Number(const OSSL_PARAM& param) {
  int value = 0;
  if (param.data_type == OSSL_PARAM_UTF8_STRING) return std::nullopt;
  if (OSSL_PARAM_get_int(&param, &value) != 1) return std::nullopt;
  return value;
}

bool SetPadding(Operation& operation, const OSSL_PARAM& param) {
  const std::optional<int> mode = Number(param);
  operation.pss = mode == RSA_PKCS1_PSS_PADDING || Name(param) == OSSL_PKEY_RSA_PAD_MODE_PSS;
  const bool pkcs1 = mode == RSA_PKCS1_PADDING || Name(param) == OSSL_PKEY_RSA_PAD_MODE_PKCSV15;
  return operation.pss || (pkcs1 && IsType(operation, "RSA"));
}

// TLS knows one length of the salt, that of the digest (RFC 8446 section 4.2.3), and the keyholder
// no other.
bool IsDigestLength(const Operation& operation, const OSSL_PARAM& param) {
  constexpr std::array<int, 3> kLengths = {32, 48, 64};
  const std::optional<int> length = Number(param);
  if (!length) return Name(param) == OSSL_PKEY_RSA_PSS_SALT_LEN_DIGEST;
  return length == RSA_PSS_SALTLEN_DIGEST || operation.digest == Digest::kNone ||
         length == kLengths[static_cast<size_t>(operation.digest)];
}

int SetParams(void* object, const OSSL_PARAM params[]) {
  auto& operation = *static_cast<Operation*>(object);
  if (params == nullptr) return 1;
  const OSSL_PARAM* padding = OSSL_PARAM_locate_const(params, OSSL_SIGNATURE_PARAM_PAD_MODE);
  if (padding != nullptr && !SetPadding(operation, *padding)) return Fail("RSA padding");
  const OSSL_PARAM* salt = OSSL_PARAM_locate_const(params, OSSL_SIGNATURE_PARAM_PSS_SALTLEN);
  if (salt != nullptr && !IsDigestLength(operation, *salt)) return Fail("length of the PSS salt");
  return 1;
}

const OSSL_PARAM* SettableParams(void*, void*) {
  static const OSSL_PARAM kParams[] = {
      OSSL_PARAM_utf8_string(OSSL_SIGNATURE_PARAM_PAD_MODE, nullptr, 0),
      OSSL_PARAM_utf8_string(OSSL_SIGNATURE_PARAM_PSS_SALTLEN, nullptr, 0),
      OSSL_PARAM_END,
  };
  return kParams;
}

// An RSA-PSS key may be restricted to one digest (RFC 4055 section 1.2).
bool IsAllowed(const Operation& operation) {
  std::array<char, 64> name{};
  const bool mandatory = EVP_PKEY_get_default_digest_name(operation.key->public_half.get(),
                                                          name.data(), name.size()) == 2;
  Digest only = Digest::kNone;
  return !mandatory || (FindDigest(name.data(), only) && only == operation.digest);
}

// libssl tries this with each scheme that the client offers and passes over those that fail.
int SignInit(void* object, const char* digest, void* key, const OSSL_PARAM params[]) {
  auto& operation = *static_cast<Operation*>(object);
  if (key != nullptr) operation.key = static_cast<const Key*>(key);
  if (operation.key == nullptr || !operation.key->certificate_id) return Fail("no private key");
  operation.pss = IsType(operation, "RSA-PSS");
  operation.digest = Digest::kNone;
  const bool has_digest = digest != nullptr && digest[0] != '\0';
  if (has_digest == IsType(operation, "ED25519")) return Fail("Ed25519 alone has no digest");
  if (has_digest && !FindDigest(digest, operation.digest)) {
    return Fail(std::string("no TLS handshake is signed with this digest: ") + digest);
  }
  if (IsType(operation, "RSA-PSS") && !IsAllowed(operation)) return Fail("not this key's digest");
  return SetParams(object, params);
}

uint16_t SchemeOf(const Operation& operation) {
  if (IsType(operation, "ED25519")) return schemes::kEd25519;
  const Family& family = IsType(operation, "EC")        ? kEcdsa
                         : IsType(operation, "RSA-PSS") ? kPssPss
                         : operation.pss                ? kPssRsae
                                                        : kPkcs1;
  return family[static_cast<size_t>(operation.digest)];
}

int Sign(void* object, unsigned char* signature, size_t* size, size_t capacity,
         const unsigned char* content, size_t content_size) {
  const auto& operation = *static_cast<const Operation*>(object);
  if (signature == nullptr) {
    *size = static_cast<size_t>(EVP_PKEY_get_size(operation.key->public_half.get()));
    return 1;
  }
  KeyholderClient* client = operation.provider->client;
  if (client == nullptr) return Fail("the keyholder's client is gone");
  const absl::StatusOr<std::vector<uint8_t>> made =
      client->Sign(*operation.key->certificate_id, SchemeOf(operation), {content, content_size});
  if (!made.ok()) return Fail(std::string(made.status().message()));
  if (made->size() > capacity) return Fail("the keyholder's signature is too long");
  std::ranges::copy(*made, signature);
  *size = made->size();
  return 1;
}

const OSSL_DISPATCH kSignatureFunctions[] = {
    Entry<OSSL_FUNC_signature_newctx_fn>(OSSL_FUNC_SIGNATURE_NEWCTX, NewContext),
    Entry<OSSL_FUNC_signature_freectx_fn>(OSSL_FUNC_SIGNATURE_FREECTX, FreeContext),
    Entry<OSSL_FUNC_signature_digest_sign_init_fn>(OSSL_FUNC_SIGNATURE_DIGEST_SIGN_INIT, SignInit),
    Entry<OSSL_FUNC_signature_digest_sign_fn>(OSSL_FUNC_SIGNATURE_DIGEST_SIGN, Sign),
    Entry<OSSL_FUNC_signature_set_ctx_params_fn>(OSSL_FUNC_SIGNATURE_SET_CTX_PARAMS, SetParams),
    Entry<OSSL_FUNC_signature_settable_ctx_params_fn>(OSSL_FUNC_SIGNATURE_SETTABLE_CTX_PARAMS,
                                                      SettableParams),
    {0, nullptr},
};

}  // namespace

const OSSL_ALGORITHM kSignatures[] = {
    {"RSA:rsaEncryption:1.2.840.113549.1.1.1", kOurProperty, kSignatureFunctions, nullptr},
    {"ECDSA", kOurProperty, kSignatureFunctions, nullptr},
    {"ED25519:1.3.101.112", kOurProperty, kSignatureFunctions, nullptr},
    {nullptr, nullptr, nullptr, nullptr},
};

}  // namespace tlsbroker::keyholder
