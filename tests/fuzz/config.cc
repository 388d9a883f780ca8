// SPDX-License-Identifier: Apache-2.0
// The configuration: whatever the text is, it is read, or its faults are reported, each with its
// place.

#include "broker/supervisor/config.h"

#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace tlsbroker::supervisor;
  Diagnostics diagnostics("f");
  const Config config =
      ParseConfig(std::string_view(reinterpret_cast<const char*>(data), size), diagnostics);
  FUZZ_ASSERT(diagnostics.failed() == !diagnostics.errors().empty());
  for (const std::string& line : diagnostics.errors()) {
    FUZZ_ASSERT(line.starts_with("f:") && line.find('\n') == std::string::npos);
  }
  FUZZ_ASSERT(diagnostics.failed() || !config.services.empty() || !diagnostics.warnings().empty());
  return diagnostics.failed() ? kRefused : 0;
}
