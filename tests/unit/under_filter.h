// SPDX-License-Identifier: Apache-2.0
// Runs operations of libtlsbroker in a child whose seccomp filter kills it for any system call that
// is not in a list.

#ifndef TLSBROKER_TESTS_UNIT_UNDER_FILTER_H_
#define TLSBROKER_TESTS_UNIT_UNDER_FILTER_H_

#include <sys/types.h>

#include <functional>
#include <string>
#include <vector>

#include "tests/unit/system_call_table.h"

namespace tlsbroker {

// What runs under the filter; true if it succeeded.
using Act = std::function<bool()>;

struct Operation {
  std::string name;
  std::vector<std::string> rows;  // rows of the table that allow it
  std::function<Act()> prepare;   // runs in the child before the filter, and makes the Act
  bool own_thread = false;        // runs in a thread that has allocated nothing yet
};

// For `prepare`: if the condition is false, ends the child, and the test fails and says what.
void Require(bool condition, const char* what);

// For children that `prepare` starts: they end with the child that runs it.
void DieWith(pid_t parent);

struct Ending {
  bool killed = false;  // by the filter
  bool succeeded = false;
  std::string description;  // of anything but success
};

Ending RunUnder(const Calls& allowed, const Operation& operation);

// The name of the first call that is not allowed, for which the operation is run once more.
std::string RefusedCall(const Calls& allowed, const Operation& operation);

}  // namespace tlsbroker

#endif  // TLSBROKER_TESTS_UNIT_UNDER_FILTER_H_
