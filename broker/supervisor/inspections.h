// SPDX-License-Identifier: Apache-2.0
// Finds out what is in the files of the certificates that a configuration names, before anything is
// started from it. Keyholders do that, one for each service, with the certificates of that service
// alone; they serve nobody and end afterwards. The supervisor has no code that could, and reads
// none of these files. Runs in the supervisor.

#ifndef TLSBROKER_BROKER_SUPERVISOR_INSPECTIONS_H_
#define TLSBROKER_BROKER_SUPERVISOR_INSPECTIONS_H_

#include <asio/any_io_executor.hpp>
#include <asio/awaitable.hpp>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "broker/supervisor/diagnostics.h"
#include "broker/supervisor/log_sources.h"
#include "broker/supervisor/programs.h"
#include "broker/supervisor/setup.h"

namespace tlsbroker::supervisor {

struct InspectionContext {
  const Programs& programs;
  std::shared_ptr<LogSources> log;  // null: they write to our standard error
  std::function<bool()> give_up;    // asked now and then
};

// Fills the credentials of `setup`, and says in `diagnostics` all that is wrong with them. Files
// that have not changed since `previous`, which may be null, are not looked at again. Returns lines
// for a person about the certificates that were looked at. To be destroyed neither before it has
// returned nor without having run.
asio::awaitable<std::vector<std::string>> InspectCertificates(const asio::any_io_executor& executor,
                                                              const Setup& setup,
                                                              const Setup* previous,
                                                              const InspectionContext& context,
                                                              Diagnostics& diagnostics);

}  // namespace tlsbroker::supervisor

#endif  // TLSBROKER_BROKER_SUPERVISOR_INSPECTIONS_H_
