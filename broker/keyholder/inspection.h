// SPDX-License-Identifier: Apache-2.0
// Looks into the files of one [certificate.NAME] for the supervisor, which reads none of them: says
// which chain clients will get, without its key, and what is wrong. Runs in a keyholder that serves
// nobody and ends afterwards.

#ifndef TLSBROKER_BROKER_KEYHOLDER_INSPECTION_H_
#define TLSBROKER_BROKER_KEYHOLDER_INSPECTION_H_

#include "absl/status/status.h"
#include "broker/keyholder/key_files.h"
#include "broker/keyholder/system_authorities.h"
#include "protocol/certificate_facts.h"
#include "protocol/service_messages.h"

namespace tlsbroker {

supervision::CertificateFacts FactsOf(const supervision::Inspect& files, KeyFileReader& reader,
                                      const SystemAuthorities& trusted);

// Reports them in pieces.
absl::Status ReportFacts(uint16_t id, const supervision::CertificateFacts& facts);

}  // namespace tlsbroker

#endif  // TLSBROKER_BROKER_KEYHOLDER_INSPECTION_H_
