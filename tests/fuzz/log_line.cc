// SPDX-License-Identifier: Apache-2.0
// What a worker writes into its log. The first byte of the input says how large the pieces are in
// which it arrives.

#include <limits.h>

#include <string>
#include <string_view>

#include "broker/logger/escape.h"
#include "broker/logger/line.h"
#include "tests/fuzz/fuzz.h"

namespace {

using namespace tlsbroker::logger;

std::string Written(std::string_view bytes, size_t piece) {
  std::string out;
  LineSplitter splitter;
  const auto take = [&out](std::string_view line, bool whole) {
    FUZZ_ASSERT(!line.empty() && line.size() <= LineSplitter::kMaxLine);
    FUZZ_ASSERT(line.find('\n') == line.npos);
    const int priority = TakePriority(line, 6);
    FUZZ_ASSERT(priority >= kMostUrgent && priority <= 7);
    const std::string text = FormatLine(true, priority, "tag: ", line, whole);
    FUZZ_ASSERT(text.size() <= PIPE_BUF && text.ends_with('\n'));
    FUZZ_ASSERT(text.find("tag: ") == 3);
    for (const char c : text.substr(0, text.size() - 1)) {
      const auto byte = static_cast<uint8_t>(c);
      FUZZ_ASSERT(byte == '\t' || (byte >= 0x20 && byte != 0x7f));
    }
    // Text that is safe is not changed by Escape().
    const Escaped escaped = Escape(text.substr(0, text.size() - 1), text.size());
    FUZZ_ASSERT(escaped.whole && escaped.text + "\n" == text);
    out += text;
  };
  for (size_t i = 0; i < bytes.size(); i += piece) splitter.Add(bytes.substr(i, piece), take);
  splitter.End(take);
  return out;
}

}  // namespace

int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return kRefused;
  const std::string_view bytes(reinterpret_cast<const char*>(data + 1), size - 1);
  FUZZ_ASSERT(Written(bytes, size_t{data[0]} + 1) == Written(bytes, size));
  return 0;
}
