// SPDX-License-Identifier: Apache-2.0
// What a connection begins with, judged by its first five bytes: before any memory is spent on
// OpenSSL, and so that the log can say what came instead of TLS. Runs in the handshaker; the bytes
// are a stranger's.

#ifndef TLSBROKER_BROKER_HANDSHAKER_FIRST_RECORD_H_
#define TLSBROKER_BROKER_HANDSHAKER_FIRST_RECORD_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "broker/handshaker/record_scanner.h"

namespace tlsbroker {

using RecordHeader = std::span<const uint8_t, kRecordHeader>;

// RFC 8446 section 5.2 and RFC 5246 section 6.2.3: ciphertext may be this much longer than 2^14
// bytes of plaintext.
inline constexpr size_t kMaxRecordBody = (1 << 14) + 2048;

inline size_t BodySize(RecordHeader header) {
  return (static_cast<size_t>(header[3]) << 8) | header[4];
}

struct NoTls {
  const char* what = nullptr;  // for the log, in words
  uint8_t alert = 0;           // what RFC 8446 has for it
};

// `what` is null for the header of a record that OpenSSL can judge.
NoTls JudgeFirst(RecordHeader header);

// A fatal alert, as a record that is not encrypted.
std::array<uint8_t, kRecordHeader + 2> PlainAlert(uint8_t alert);

}  // namespace tlsbroker

#endif  // TLSBROKER_BROKER_HANDSHAKER_FIRST_RECORD_H_
