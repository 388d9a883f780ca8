// SPDX-License-Identifier: Apache-2.0
// absl::Status is for what should not have happened: it goes up the stack and is logged once, at
// the top, with what each level knew about it. What a peer on the network does is expected, even if
// it breaks all rules: it is a value of a closed enum and the caller decides. Nothing that a peer
// sends may reach an assertion. Debian 12's Abseil has no status macros, so these two are ours.

#ifndef TLSBROKER_BROKER_SUPPORT_STATUS_H_
#define TLSBROKER_BROKER_SUPPORT_STATUS_H_

#include <cerrno>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

#define TLSBROKER_CONCAT_(a, b) a##b
#define TLSBROKER_CONCAT(a, b) TLSBROKER_CONCAT_(a, b)

#define RETURN_IF_ERROR(expression)                                         \
  do {                                                                      \
    if (absl::Status status_ = (expression); !status_.ok()) return status_; \
  } while (false)

#define ASSIGN_OR_RETURN(target, expression) \
  ASSIGN_OR_RETURN_(TLSBROKER_CONCAT(status_or_, __LINE__), target, expression)
#define ASSIGN_OR_RETURN_(result, target, expression) \
  auto result = (expression);                         \
  if (!result.ok()) return result.status();           \
  target = std::move(result).value()

namespace tlsbroker {

// "what: No such file or directory" for the current errno.
inline absl::Status ErrnoStatus(absl::string_view what) { return absl::ErrnoToStatus(errno, what); }

}  // namespace tlsbroker

#endif  // TLSBROKER_BROKER_SUPPORT_STATUS_H_
