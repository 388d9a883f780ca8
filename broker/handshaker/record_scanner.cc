// SPDX-License-Identifier: Apache-2.0
#include "broker/handshaker/record_scanner.h"

#include <algorithm>

namespace tlsbroker {

bool RecordScanner::Scan(std::span<const uint8_t> flight) {
  protected_records_ = 0;
  while (!flight.empty()) {
    if (flight.size() < kRecordHeader) return false;
    const uint8_t type = flight[0];
    const size_t length = (static_cast<size_t>(flight[3]) << 8) | flight[4];
    if (flight.size() < kRecordHeader + length) return false;
    const auto body = flight.subspan(kRecordHeader, length);
    if (type == kApplicationData) ++protected_records_;
    if (type == kHandshakeRecord && after_change_cipher_spec_ && !has_nonce_ &&
        body.size() >= nonce_.size()) {
      std::copy_n(body.begin(), nonce_.size(), nonce_.begin());
      has_nonce_ = true;
    }
    if (type == kChangeCipherSpec) after_change_cipher_spec_ = true;
    flight = flight.subspan(kRecordHeader + length);
  }
  return true;
}

}  // namespace tlsbroker
