// SPDX-License-Identifier: Apache-2.0
#include "broker/handshaker/keyholder_provider.h"

#include <openssl/core_dispatch.h>
#include <openssl/core_names.h>
#include <openssl/params.h>

#include <memory>
#include <utility>

#include "broker/handshaker/keyholder_algorithms.h"
#include "broker/support/status.h"

namespace tlsbroker {
namespace {

using keyholder::Entry;
using keyholder::ProviderContext;

using ParamsPtr = OpensslPtr<OSSL_PARAM, OSSL_PARAM_free>;

const OSSL_ALGORITHM* Query(void*, int operation, int* no_cache) {
  *no_cache = 0;
  if (operation == OSSL_OP_KEYMGMT) return keyholder::kKeyManagement;
  if (operation == OSSL_OP_SIGNATURE) return keyholder::kSignatures;
  return nullptr;
}

void Teardown(void* context) { delete static_cast<ProviderContext*>(context); }

// Called by OSSL_PROVIDER_load, which has no argument for us: Load fills the context in afterwards.
int Init(const OSSL_CORE_HANDLE*, const OSSL_DISPATCH*, const OSSL_DISPATCH** functions,
         void** context) {
  static const OSSL_DISPATCH kFunctions[] = {
      Entry<OSSL_FUNC_provider_teardown_fn>(OSSL_FUNC_PROVIDER_TEARDOWN, Teardown),
      Entry<OSSL_FUNC_provider_query_operation_fn>(OSSL_FUNC_PROVIDER_QUERY_OPERATION, Query),
      {0, nullptr},
  };
  *functions = kFunctions;
  *context = new ProviderContext;
  return 1;
}

ProviderContext& ContextOf(const OsslProviderPtr& provider) {
  return *static_cast<ProviderContext*>(OSSL_PROVIDER_get0_provider_ctx(provider.get()));
}

}  // namespace

absl::StatusOr<std::unique_ptr<KeyholderProvider>> KeyholderProvider::Load(
    OSSL_LIB_CTX* context, KeyholderClient* client) {
  // OSSL_PROVIDER_available() loads the default provider where no provider was chosen yet; with
  // ours alone there could be no TLS.
  if (OSSL_PROVIDER_available(context, "default") != 1) {
    return absl::FailedPreconditionError("OpenSSL's default provider is not loaded");
  }
  if (OSSL_PROVIDER_add_builtin(context, keyholder::kProviderName, Init) != 1) {
    return OpensslStatus("cannot add the keyholder's provider");
  }
  OsslProviderPtr provider(OSSL_PROVIDER_load(context, keyholder::kProviderName));
  if (provider == nullptr) return OpensslStatus("cannot load the keyholder's provider");
  ContextOf(provider) = {context, client};
  if (EVP_set_default_properties(context, "?provider!=tlsbroker") != 1) {
    return OpensslStatus("cannot set the default properties");
  }
  return std::unique_ptr<KeyholderProvider>(new KeyholderProvider(context, std::move(provider)));
}

KeyholderProvider::~KeyholderProvider() { ContextOf(provider_).client = nullptr; }

absl::StatusOr<EvpPkeyPtr> KeyholderProvider::MakeKey(uint16_t certificate_id, X509* leaf) {
  const EVP_PKEY* certified = X509_get0_pubkey(leaf);
  if (certified == nullptr) return OpensslStatus("the certificate's public key cannot be read");
  OSSL_PARAM* exported = nullptr;
  if (EVP_PKEY_todata(certified, EVP_PKEY_PUBLIC_KEY, &exported) != 1) {
    return OpensslStatus("the certificate's public key cannot be exported");
  }
  const ParamsPtr public_half(exported);
  unsigned int id = certificate_id;
  const OSSL_PARAM reference[] = {
      OSSL_PARAM_construct_uint(keyholder::kCertificateIdParameter, &id),
      OSSL_PARAM_construct_end(),
  };
  const ParamsPtr all(OSSL_PARAM_merge(public_half.get(), reference));
  const EvpPkeyCtxPtr maker(EVP_PKEY_CTX_new_from_name(context_, EVP_PKEY_get0_type_name(certified),
                                                       keyholder::kOurProperty));
  EVP_PKEY* key = nullptr;
  if (all == nullptr || maker == nullptr || EVP_PKEY_fromdata_init(maker.get()) != 1 ||
      EVP_PKEY_fromdata(maker.get(), &key, EVP_PKEY_KEYPAIR, all.get()) != 1) {
    return OpensslStatus("no key of the keyholder can be made for this certificate");
  }
  return EvpPkeyPtr(key);
}

}  // namespace tlsbroker
