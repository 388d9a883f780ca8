// SPDX-License-Identifier: Apache-2.0
// What a program writes to its standard error, line by line into the log.

#ifndef TLSBROKER_CLIENT_LIB_TOOLS_EXEC_LOG_LINES_H_
#define TLSBROKER_CLIENT_LIB_TOOLS_EXEC_LOG_LINES_H_

#include <string>

#include "protocol/unique_fd.h"

namespace tlsbroker::tools {

class LogLines {
 public:
  // Logs the whole lines that `fd` has, each with `name`; closes it at its end. False when there is
  // nothing to read now.
  bool Copy(UniqueFd& fd, const std::string& name);
  // Logs a last line that has no newline.
  void Flush(const std::string& name);

 private:
  std::string begun_;
};

}  // namespace tlsbroker::tools

#endif  // TLSBROKER_CLIENT_LIB_TOOLS_EXEC_LOG_LINES_H_
