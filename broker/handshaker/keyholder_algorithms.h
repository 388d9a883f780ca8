// SPDX-License-Identifier: Apache-2.0
// What the two halves of the OpenSSL provider "tlsbroker" share: the provider's context, its key
// object and the tables of its algorithms. Runs in the handshaker; only keyholder_*.cc include it.

#ifndef TLSBROKER_BROKER_HANDSHAKER_KEYHOLDER_ALGORITHMS_H_
#define TLSBROKER_BROKER_HANDSHAKER_KEYHOLDER_ALGORITHMS_H_

#include <openssl/core.h>

#include <cstdint>
#include <optional>

#include "broker/handshaker/keyholder_client.h"
#include "broker/support/openssl_ptr.h"

namespace tlsbroker::keyholder {

inline constexpr char kProviderName[] = "tlsbroker";
inline constexpr char kOurProperty[] = "provider=tlsbroker";
inline constexpr char kOthersProperty[] = "provider!=tlsbroker";
// The parameter, an unsigned integer, that makes a public key a reference to a private one.
inline constexpr char kCertificateIdParameter[] = "tlsbroker-certificate-id";

// OpenSSL frees it when the last key of the provider is gone.
struct ProviderContext {
  OSSL_LIB_CTX* library = nullptr;
  KeyholderClient* client = nullptr;  // nullptr once KeyholderProvider is gone
};

struct Key {
  ProviderContext* provider;
  const char* type;        // OpenSSL's name of the key type
  EvpPkeyPtr public_half;  // of another provider, which answers all questions about it
  std::optional<uint16_t> certificate_id;
};

extern const OSSL_ALGORITHM kKeyManagement[];
extern const OSSL_ALGORITHM kSignatures[];

// An entry of a dispatch table; Function is the OSSL_FUNC_..._fn that the id stands for, so that a
// function of another type does not compile.
template <typename Function>
OSSL_DISPATCH Entry(int id, Function* function) {
  return {id, reinterpret_cast<void (*)()>(function)};
}

}  // namespace tlsbroker::keyholder

#endif  // TLSBROKER_BROKER_HANDSHAKER_KEYHOLDER_ALGORITHMS_H_
