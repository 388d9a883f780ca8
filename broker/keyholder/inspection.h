// SPDX-License-Identifier: Apache-2.0
// Looks into the files of one [certificate.NAME] for the supervisor, which reads none of them: says
// which chain clients will get, without its key, and what is wrong. Runs in a keyholder that serves
// nobody and ends afterwards.

#ifndef TLSBROKER_BROKER_KEYHOLDER_INSPECTION_H_
#define TLSBROKER_BROKER_KEYHOLDER_INSPECTION_H_

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "broker/keyholder/key_files.h"
#include "broker/keyholder/system_authorities.h"
#include "broker/support/openssl_ptr.h"
#include "protocol/certificate_facts.h"
#include "protocol/service_messages.h"

namespace tlsbroker {

// `uri_key` is what ReadKeyUri() returned, and is looked at only if the key has a URI.
supervision::CertificateFacts FactsOf(const supervision::Inspect& files,
                                      absl::StatusOr<EvpPkeyPtr> uri_key, KeyFileReader& reader,
                                      const SystemAuthorities& trusted);

// Reports them in pieces.
absl::Status ReportFacts(uint16_t id, const supervision::CertificateFacts& facts);

}  // namespace tlsbroker

#endif  // TLSBROKER_BROKER_KEYHOLDER_INSPECTION_H_
