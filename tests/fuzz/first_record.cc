// SPDX-License-Identifier: Apache-2.0
// What a stranger's connection begins with.

#include "broker/handshaker/first_record.h"

#include <cstring>

#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace tlsbroker;
  if (size < kRecordHeader) return kRefused;
  const RecordHeader header = std::span(data, size).first<kRecordHeader>();
  const NoTls judged = JudgeFirst(header);
  if (judged.what != nullptr) {
    FUZZ_ASSERT(judged.alert != 0 && std::strlen(judged.what) > 0);
    return kRefused;
  }
  // What OpenSSL gets to see is bounded, and has one of the four types.
  FUZZ_ASSERT(BodySize(header) <= kMaxRecordBody && header[1] == 3);
  FUZZ_ASSERT(header[0] >= kChangeCipherSpec && header[0] <= kApplicationData);
  return 0;
}
