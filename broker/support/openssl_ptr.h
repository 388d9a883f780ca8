// SPDX-License-Identifier: Apache-2.0
// Owners of OpenSSL objects: unique_ptr with the matching free function, and the text of OpenSSL's
// error queue. Header only, so that it brings libssl only to those who use its types. Used by the
// keyholder and the handshakers.

#ifndef TLSBROKER_BROKER_SUPPORT_OPENSSL_PTR_H_
#define TLSBROKER_BROKER_SUPPORT_OPENSSL_PTR_H_

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/kdf.h>
#include <openssl/provider.h>
#include <openssl/ssl.h>
#include <openssl/store.h>
#include <openssl/x509.h>

#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace tlsbroker {

namespace openssl_internal {

// A function in the type makes the deleter free of state; one whose result is ignored (BIO_free,
// OSSL_STORE_close) fits as well.
template <auto kFree>
struct Deleter {
  template <typename T>
  void operator()(T* object) const {
    (void)kFree(object);
  }
};

// sk_X509_pop_free is a macro or an inline function, depending on the version.
struct X509StackDeleter {
  void operator()(STACK_OF(X509) * stack) const { sk_X509_pop_free(stack, X509_free); }
};

}  // namespace openssl_internal

template <typename T, auto kFree>
using OpensslPtr = std::unique_ptr<T, openssl_internal::Deleter<kFree>>;

using BioPtr = OpensslPtr<BIO, BIO_free_all>;
using EvpCipherCtxPtr = OpensslPtr<EVP_CIPHER_CTX, EVP_CIPHER_CTX_free>;
using EvpCipherPtr = OpensslPtr<EVP_CIPHER, EVP_CIPHER_free>;
using EvpKdfCtxPtr = OpensslPtr<EVP_KDF_CTX, EVP_KDF_CTX_free>;
using EvpKdfPtr = OpensslPtr<EVP_KDF, EVP_KDF_free>;
using EvpMacCtxPtr = OpensslPtr<EVP_MAC_CTX, EVP_MAC_CTX_free>;
using EvpMacPtr = OpensslPtr<EVP_MAC, EVP_MAC_free>;
using EvpMdCtxPtr = OpensslPtr<EVP_MD_CTX, EVP_MD_CTX_free>;
using EvpMdPtr = OpensslPtr<EVP_MD, EVP_MD_free>;
using EvpPkeyCtxPtr = OpensslPtr<EVP_PKEY_CTX, EVP_PKEY_CTX_free>;
using EvpPkeyPtr = OpensslPtr<EVP_PKEY, EVP_PKEY_free>;
using OsslLibCtxPtr = OpensslPtr<OSSL_LIB_CTX, OSSL_LIB_CTX_free>;
using OsslProviderPtr = OpensslPtr<OSSL_PROVIDER, OSSL_PROVIDER_unload>;
using OsslStoreCtxPtr = OpensslPtr<OSSL_STORE_CTX, OSSL_STORE_close>;
using OsslStoreInfoPtr = OpensslPtr<OSSL_STORE_INFO, OSSL_STORE_INFO_free>;
using X509Ptr = OpensslPtr<X509, X509_free>;
using X509StackPtr = std::unique_ptr<STACK_OF(X509), openssl_internal::X509StackDeleter>;
// Only used by those who link libssl; the keyholder never instantiates these.
using SslCtxPtr = OpensslPtr<SSL_CTX, SSL_CTX_free>;
using SslPtr = OpensslPtr<SSL, SSL_free>;
using SslSessionPtr = OpensslPtr<SSL_SESSION, SSL_SESSION_free>;

// SSL_get_error(3) wants this thread's error queue to be empty before each call. It nearly always
// is, and ERR_clear_error() frees all its entries in any case.
inline void ClearErrors() {
  if (ERR_peek_error() != 0) ERR_clear_error();
}

// "what: error:...", with the first entry of this thread's error queue, which is emptied. The first
// entry is where it went wrong; the later ones are callers passing it on.
inline absl::Status OpensslStatus(absl::string_view what,
                                  absl::StatusCode code = absl::StatusCode::kInternal) {
  const unsigned long error = ERR_get_error();
  ERR_clear_error();
  if (error == 0) return absl::Status(code, what);
  char text[256];
  ERR_error_string_n(error, text, sizeof(text));
  return absl::Status(code, absl::StrCat(what, ": ", text));
}

}  // namespace tlsbroker

#endif  // TLSBROKER_BROKER_SUPPORT_OPENSSL_PTR_H_
