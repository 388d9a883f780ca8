// Certificate chains and private keys, opened. A chain is read: it is public. A key file is opened
// for the keyholder and never read here. Runs in the supervisor, with the rights to open them.

#ifndef TLSBROKER_BROKER_SUPERVISOR_CREDENTIALS_H_
#define TLSBROKER_BROKER_SUPERVISOR_CREDENTIALS_H_

#include <string>
#include <vector>

#include "broker/supervisor/config.h"
#include "broker/supervisor/diagnostics.h"
#include "protocol/unique_fd.h"

namespace tlsbroker::supervisor {

// Kept open as long as its configuration is in force: a keyholder that has to be started again gets
// the key that belongs to the chain, also when the files are being replaced.
struct Credential {
  std::string chain_pem;
  UniqueFd key_file;  // invalid if the key has a URI
  std::string key_uri;
};

// A regular file that is not empty, for reading; invalid, and a complaint, if it is none. `right`
// says what is needed.
UniqueFd OpenRegularFile(const At<Source>& source, const char* right, Diagnostics& diagnostics);

// In the order of config.certificates.
std::vector<Credential> OpenCredentials(const Config& config, Diagnostics& diagnostics);

}  // namespace tlsbroker::supervisor

#endif  // TLSBROKER_BROKER_SUPERVISOR_CREDENTIALS_H_
