// SPDX-License-Identifier: Apache-2.0
// Certificate chains, private keys and passphrases, opened, and none of them read: a keyholder
// looks into them (inspections.h). Runs in the supervisor, with the rights to open them.

#ifndef TLSBROKER_BROKER_SUPERVISOR_CREDENTIALS_H_
#define TLSBROKER_BROKER_SUPERVISOR_CREDENTIALS_H_

#include <memory>
#include <string>
#include <vector>

#include "broker/supervisor/config.h"
#include "broker/supervisor/diagnostics.h"
#include "protocol/certificate_facts.h"
#include "protocol/unique_fd.h"

namespace tlsbroker::supervisor {

// Kept open as long as its configuration is in force: a keyholder that has to be started again gets
// the key that belongs to the chain, also when the files are being replaced.
struct Credential {
  std::string chain_pem;  // what clients get, once a keyholder has found it out; no key is in it
  UniqueFd key_file;      // invalid if the key has a URI
  std::string key_uri;
  // These differ for another file, and for one that was written to.
  std::string key_identity;  // with the passphrase's
  std::string chain_identity;
  UniqueFd chain_file;    // until its chain is known
  UniqueFd passphrase;    // may be invalid
  bool one_file = false;  // key_file is chain_file, once more
  supervision::CertificateFacts facts;
};

// A regular file that is not empty, for reading; invalid, and a complaint, if it is none. `right`
// says what is needed.
UniqueFd OpenRegularFile(const At<Source>& source, const char* right, Diagnostics& diagnostics);

// The identity of an open file: device, inode, size and times.
std::string FileIdentity(int fd);

// In the order of config.certificates.
std::vector<std::shared_ptr<Credential>> OpenCredentials(const Config& config,
                                                         Diagnostics& diagnostics);

}  // namespace tlsbroker::supervisor

#endif  // TLSBROKER_BROKER_SUPERVISOR_CREDENTIALS_H_
