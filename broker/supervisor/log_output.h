// SPDX-License-Identifier: Apache-2.0
// The broker's standard error, where its log is written to: which kind it is, a descriptor of it
// that makes no writer wait, and the file of that name once somebody has renamed the old one. Runs
// in the supervisor.

#ifndef TLSBROKER_BROKER_SUPERVISOR_LOG_OUTPUT_H_
#define TLSBROKER_BROKER_SUPERVISOR_LOG_OUTPUT_H_

#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "protocol/message.h"
#include "protocol/unique_fd.h"

namespace tlsbroker::supervisor {

class LogOutput {
 public:
  // Looks at descriptor 2 and opens the same file again. The new descriptor has file status flags
  // of its own: what others do with theirs (O_NONBLOCK) does not matter, and they do not get ours.
  // If the file cannot be opened again, such as a socket or somebody else's terminal, the
  // descriptor is copied.
  LogOutput();

  int fd() const { return fd_.get(); }
  // The message for a logger, with a copy of fd().
  absl::StatusOr<supervision::LogOutput> Message() const;

  // The name of the regular file that standard error was at the start; empty if it is something
  // else, or the file had no name any more.
  const std::string& path() const { return path_; }
  // Opens the file of that name, which is made if there is none, for the log and as descriptor 2.
  absl::Status Reopen();

 private:
  UniqueFd fd_;
  bool priorities_ = false;
  bool socket_ = false;
  std::string path_;
};

}  // namespace tlsbroker::supervisor

#endif  // TLSBROKER_BROKER_SUPERVISOR_LOG_OUTPUT_H_
