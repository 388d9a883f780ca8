// SPDX-License-Identifier: Apache-2.0
// The authorities that this machine trusts, where OpenSSL looks for them. Runs in a keyholder that
// inspects files: opened before it is confined, read, in part, when somebody asks.

#ifndef TLSBROKER_BROKER_KEYHOLDER_SYSTEM_AUTHORITIES_H_
#define TLSBROKER_BROKER_KEYHOLDER_SYSTEM_AUTHORITIES_H_

#include <openssl/x509.h>

#include <cstdint>
#include <unordered_set>

#include "protocol/unique_fd.h"

namespace tlsbroker {

class SystemAuthorities {
 public:
  // Without any.
  SystemAuthorities() = default;

  static SystemAuthorities Open();

  // Whether one has the name of the certificate's issuer.
  bool HaveIssuerOf(const X509* certificate) const;

 private:
  bool BundleHas(const X509_NAME* name) const;

  std::unordered_set<uint32_t> hashes_;  // of the names in the directory
  UniqueFd bundle_;
};

}  // namespace tlsbroker

#endif  // TLSBROKER_BROKER_KEYHOLDER_SYSTEM_AUTHORITIES_H_
