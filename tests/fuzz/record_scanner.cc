// SPDX-License-Identifier: Apache-2.0
// Our own flights of TLS records, as OpenSSL wrote them.

#include "broker/handshaker/record_scanner.h"

#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  tlsbroker::RecordScanner scanner;
  const size_t half = size / 2;
  if (scanner.Scan({data, half})) (void)scanner.Scan({data + half, size - half});
  FUZZ_ASSERT(scanner.protected_records() <= size / tlsbroker::kRecordHeader);
  return tlsbroker::RecordScanner().Scan({data, size}) ? 0 : kRefused;
}
