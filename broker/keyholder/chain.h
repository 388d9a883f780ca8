// SPDX-License-Identifier: Apache-2.0
// The chain that clients get, out of the certificates of a file in any order, and what they will
// find in it. Runs in the keyholder.

#ifndef TLSBROKER_BROKER_KEYHOLDER_CHAIN_H_
#define TLSBROKER_BROKER_KEYHOLDER_CHAIN_H_

#include <string>
#include <vector>

#include "broker/keyholder/key_files.h"
#include "broker/keyholder/system_authorities.h"
#include "protocol/certificate_facts.h"

namespace tlsbroker {

// "CN=example,O=..." (RFC 2253), printable and short enough for a line of the log.
std::string SubjectOf(const X509* certificate);

// The index of the server's certificate: of those that belong to this key the first that is valid
// now, or else the first. -1: none belongs to it.
int LeafFor(const EVP_PKEY* key, const std::vector<KeyFile::Certificate>& certificates);

// Puts the leaf's chain into `facts`, in order, each certificate once and without those that have
// not issued it, with all that can be said about it.
void DescribeChain(const std::vector<KeyFile::Certificate>& certificates, size_t leaf,
                   const SystemAuthorities& trusted, supervision::CertificateFacts& facts);

}  // namespace tlsbroker

#endif  // TLSBROKER_BROKER_KEYHOLDER_CHAIN_H_
