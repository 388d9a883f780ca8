// SPDX-License-Identifier: Apache-2.0
// Runs a program of this package and takes its stdout. Used by `tlsbroker`'s commands; the child
// has the caller's rights, as this process.

#ifndef TLSBROKER_CLIENT_LIB_TOOLS_CHILD_H_
#define TLSBROKER_CLIENT_LIB_TOOLS_CHILD_H_

#include <chrono>
#include <string>
#include <vector>

namespace tlsbroker::tools {

struct ChildResult {
  bool ok = false;     // it ran and exited with status 0
  std::string output;  // its stdout, 1 MiB at most
  std::string error;   // why not ok: a phrase that goes behind the program's name
};

// stderr stays the caller's. The child is killed when `limit` has passed.
ChildResult RunChild(const std::vector<std::string>& command, std::chrono::milliseconds limit);

// A program of the package by its file name: in the build tree if this process was started from
// there, else in libexecdir. `build_folder` is relative to the top of the build tree.
std::string FindSibling(const std::string& build_folder, const std::string& name);

}  // namespace tlsbroker::tools

#endif  // TLSBROKER_CLIENT_LIB_TOOLS_CHILD_H_
