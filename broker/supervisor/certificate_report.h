// SPDX-License-Identifier: Apache-2.0
// What clients will find, in words for the administrator: each certificate once, with its place in
// the configuration. Errors where no client can succeed, warnings else. Runs in the supervisor; the
// facts are those of a keyholder.

#ifndef TLSBROKER_BROKER_SUPERVISOR_CERTIFICATE_REPORT_H_
#define TLSBROKER_BROKER_SUPERVISOR_CERTIFICATE_REPORT_H_

#include <chrono>
#include <set>
#include <string>
#include <vector>

#include "broker/supervisor/diagnostics.h"
#include "broker/supervisor/setup.h"

namespace tlsbroker::supervisor {

// What is wrong goes to `diagnostics`. Returns one line for each certificate that is not in `known`
// and can be used: its names, its key, and until when it is valid.
std::vector<std::string> ReportCertificates(const Setup& setup,
                                            const std::set<const Credential*>& known,
                                            std::chrono::system_clock::time_point now,
                                            Diagnostics& diagnostics);

}  // namespace tlsbroker::supervisor

#endif  // TLSBROKER_BROKER_SUPERVISOR_CERTIFICATE_REPORT_H_
