// SPDX-License-Identifier: Apache-2.0
#include "broker/supervisor/start_failure.h"

#include "protocol/role_messages.h"

namespace tlsbroker::supervisor {

bool BlameConfig(const supervision::Failed& failed, const ServiceSetup& setup,
                 Diagnostics& diagnostics) {
  using Subject = supervision::Failed::Subject;
  if (failed.subject == Subject::kOther || failed.id >= setup.certificates.size()) return false;
  const CertificateConfig& certificate = setup.certificates[failed.id].config;
  const std::string wrong = "certificate \"" + certificate.name.value + "\": " + failed.text;
  if (failed.subject == Subject::kCertificateChain) {
    diagnostics.Error(certificate.chain.position, wrong,
                      "a PEM file is needed that begins with the server's certificate");
  } else {
    diagnostics.Error(certificate.key.position, wrong,
                      "the private key that belongs to 'chain' is needed");
  }
  return true;
}

}  // namespace tlsbroker::supervisor
