// SPDX-License-Identifier: Apache-2.0
// Reads the record headers of what OpenSSL is about to send, to learn what the kernel has to know
// to go on after it: how many records went out under the application keys (TLS 1.3), and the
// explicit nonce of our Finished (TLS 1.2 with GCM). Runs in the handshaker; reads our own output
// only.

#ifndef TLSBROKER_BROKER_HANDSHAKER_RECORD_SCANNER_H_
#define TLSBROKER_BROKER_HANDSHAKER_RECORD_SCANNER_H_

#include <array>
#include <cstdint>
#include <span>

namespace tlsbroker {

inline constexpr size_t kRecordHeader = 5;  // RFC 8446 5.1
inline constexpr uint8_t kChangeCipherSpec = 20;
inline constexpr uint8_t kAlert = 21;
inline constexpr uint8_t kHandshakeRecord = 22;
inline constexpr uint8_t kApplicationData = 23;

class RecordScanner {
 public:
  // One flight: whole records, as OpenSSL writes them into a memory BIO. False if it is not.
  bool Scan(std::span<const uint8_t> flight);

  // Records of the last flight with the outer type application_data. In TLS 1.3, for the flight
  // that SSL_do_handshake() wrote when it returned 1, these are the session tickets: all that was
  // sent under the server's application secret so far.
  uint64_t protected_records() const { return protected_records_; }

  // TLS 1.2: the first 8 bytes of the record that followed our ChangeCipherSpec.
  bool has_finished_nonce() const { return has_nonce_; }
  std::array<uint8_t, 8> finished_nonce() const { return nonce_; }

 private:
  uint64_t protected_records_ = 0;
  bool after_change_cipher_spec_ = false;
  bool has_nonce_ = false;
  std::array<uint8_t, 8> nonce_{};
};

}  // namespace tlsbroker

#endif  // TLSBROKER_BROKER_HANDSHAKER_RECORD_SCANNER_H_
