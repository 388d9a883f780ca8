// SPDX-License-Identifier: Apache-2.0
// The key management half of the provider: provider-keymgmt(7). A key is its certificate's public
// half, held as a key of another provider that answers for it, and the id of its private half.

#include <openssl/core_dispatch.h>
#include <openssl/core_names.h>
#include <openssl/params.h>

#include <string_view>

#include "broker/handshaker/keyholder_algorithms.h"

namespace tlsbroker::keyholder {
namespace {

constexpr char kRsa[] = "RSA";
constexpr char kRsaPss[] = "RSA-PSS";
constexpr char kEc[] = "EC";
constexpr char kEd25519[] = "ED25519";

template <const char* kType>
void* New(void* provider) {
  return new Key{static_cast<ProviderContext*>(provider), kType, nullptr, std::nullopt};
}

void Free(void* key) { delete static_cast<Key*>(key); }

int Has(const void* object, int selection) {
  const auto* key = static_cast<const Key*>(object);
  if ((selection & OSSL_KEYMGMT_SELECT_PRIVATE_KEY) != 0 && !key->certificate_id) return 0;
  return key->public_half != nullptr ? 1 : 0;
}

int Match(const void* object1, const void* object2, int selection) {
  const EVP_PKEY* public1 = static_cast<const Key*>(object1)->public_half.get();
  const EVP_PKEY* public2 = static_cast<const Key*>(object2)->public_half.get();
  if (public1 == nullptr || public2 == nullptr) return 0;
  if ((selection & OSSL_KEYMGMT_SELECT_KEYPAIR) == 0) {
    return EVP_PKEY_parameters_eq(public1, public2) == 1;
  }
  return EVP_PKEY_eq(public1, public2) == 1;
}

// libssl chooses a signature scheme by these parameters. All others that the public half knows are
// answered, too.
const OSSL_PARAM* GettableParams(void*) {
  static const OSSL_PARAM kParams[] = {
      OSSL_PARAM_int(OSSL_PKEY_PARAM_BITS, nullptr),
      OSSL_PARAM_int(OSSL_PKEY_PARAM_SECURITY_BITS, nullptr),
      OSSL_PARAM_int(OSSL_PKEY_PARAM_MAX_SIZE, nullptr),
      OSSL_PARAM_utf8_string(OSSL_PKEY_PARAM_GROUP_NAME, nullptr, 0),
      OSSL_PARAM_utf8_string(OSSL_PKEY_PARAM_DEFAULT_DIGEST, nullptr, 0),
      OSSL_PARAM_utf8_string(OSSL_PKEY_PARAM_MANDATORY_DIGEST, nullptr, 0),
      OSSL_PARAM_END,
  };
  return kParams;
}

int GetParams(void* object, OSSL_PARAM params[]) {
  const EVP_PKEY* public_half = static_cast<const Key*>(object)->public_half.get();
  return public_half != nullptr && EVP_PKEY_get_params(public_half, params) == 1;
}

// Exports only the public half. Before it signs, OpenSSL tries to move the whole key to the
// provider that it prefers; because that fails here, it comes back to ours.
int Export(void* object, int selection, OSSL_CALLBACK* callback, void* argument) {
  const EVP_PKEY* public_half = static_cast<const Key*>(object)->public_half.get();
  if (public_half == nullptr || (selection & OSSL_KEYMGMT_SELECT_PRIVATE_KEY) != 0) return 0;
  return EVP_PKEY_export(public_half, selection, callback, argument);
}

// Takes a public key, so that keys of other providers can be compared with ours, or, with
// kCertificateIdParameter, a reference. Never takes private numbers.
int Import(void* object, int selection, const OSSL_PARAM params[]) {
  auto* key = static_cast<Key*>(object);
  const OSSL_PARAM* id_param = OSSL_PARAM_locate_const(params, kCertificateIdParameter);
  unsigned int id = 0;
  if (id_param != nullptr && (OSSL_PARAM_get_uint(id_param, &id) != 1 || id > UINT16_MAX)) return 0;
  const bool wants_private = (selection & OSSL_KEYMGMT_SELECT_PRIVATE_KEY) != 0;
  if (wants_private != (id_param != nullptr)) return 0;

  const EvpPkeyCtxPtr context(
      EVP_PKEY_CTX_new_from_name(key->provider->library, key->type, kOthersProperty));
  EVP_PKEY* public_half = nullptr;
  if (context == nullptr || EVP_PKEY_fromdata_init(context.get()) != 1 ||
      EVP_PKEY_fromdata(context.get(), &public_half, EVP_PKEY_PUBLIC_KEY,
                        const_cast<OSSL_PARAM*>(params)) != 1) {
    return 0;
  }
  key->public_half.reset(public_half);
  if (id_param != nullptr) key->certificate_id = static_cast<uint16_t>(id);
  return 1;
}

const OSSL_PARAM* TransferTypes(int) {
  static const OSSL_PARAM kParams[] = {
      OSSL_PARAM_utf8_string(OSSL_PKEY_PARAM_GROUP_NAME, nullptr, 0),
      OSSL_PARAM_octet_string(OSSL_PKEY_PARAM_PUB_KEY, nullptr, 0),
      OSSL_PARAM_BN(OSSL_PKEY_PARAM_RSA_N, nullptr, 0),
      OSSL_PARAM_BN(OSSL_PKEY_PARAM_RSA_E, nullptr, 0),
      OSSL_PARAM_uint(kCertificateIdParameter, nullptr),
      OSSL_PARAM_END,
  };
  return kParams;
}

// The name of the algorithm with which a key signs, where it is not that of the key.
template <const char* kType>
const char* OperationName(int operation) {
  if (operation != OSSL_OP_SIGNATURE) return nullptr;
  if constexpr (std::string_view(kType) == kEc) return "ECDSA";
  if constexpr (std::string_view(kType) == kRsaPss) return kRsa;
  return kType;
}

template <const char* kType>
const OSSL_DISPATCH kFunctions[] = {
    Entry<OSSL_FUNC_keymgmt_new_fn>(OSSL_FUNC_KEYMGMT_NEW, New<kType>),
    Entry<OSSL_FUNC_keymgmt_free_fn>(OSSL_FUNC_KEYMGMT_FREE, Free),
    Entry<OSSL_FUNC_keymgmt_has_fn>(OSSL_FUNC_KEYMGMT_HAS, Has),
    Entry<OSSL_FUNC_keymgmt_match_fn>(OSSL_FUNC_KEYMGMT_MATCH, Match),
    Entry<OSSL_FUNC_keymgmt_get_params_fn>(OSSL_FUNC_KEYMGMT_GET_PARAMS, GetParams),
    Entry<OSSL_FUNC_keymgmt_gettable_params_fn>(OSSL_FUNC_KEYMGMT_GETTABLE_PARAMS, GettableParams),
    Entry<OSSL_FUNC_keymgmt_export_fn>(OSSL_FUNC_KEYMGMT_EXPORT, Export),
    Entry<OSSL_FUNC_keymgmt_export_types_fn>(OSSL_FUNC_KEYMGMT_EXPORT_TYPES, TransferTypes),
    Entry<OSSL_FUNC_keymgmt_import_fn>(OSSL_FUNC_KEYMGMT_IMPORT, Import),
    Entry<OSSL_FUNC_keymgmt_import_types_fn>(OSSL_FUNC_KEYMGMT_IMPORT_TYPES, TransferTypes),
    Entry<OSSL_FUNC_keymgmt_query_operation_name_fn>(OSSL_FUNC_KEYMGMT_QUERY_OPERATION_NAME,
                                                     OperationName<kType>),
    {0, nullptr},
};

}  // namespace

// The names are those of OpenSSL's default provider: keys of different providers can only be
// compared when their types have the same name.
const OSSL_ALGORITHM kKeyManagement[] = {
    {"RSA:rsaEncryption:1.2.840.113549.1.1.1", kOurProperty, kFunctions<kRsa>, nullptr},
    {"RSA-PSS:RSASSA-PSS:1.2.840.113549.1.1.10", kOurProperty, kFunctions<kRsaPss>, nullptr},
    {"EC:id-ecPublicKey:1.2.840.10045.2.1", kOurProperty, kFunctions<kEc>, nullptr},
    {"ED25519:1.3.101.112", kOurProperty, kFunctions<kEd25519>, nullptr},
    {nullptr, nullptr, nullptr, nullptr},
};

}  // namespace tlsbroker::keyholder
