// SPDX-License-Identifier: Apache-2.0
// What each process of the broker is told, and says (message.h).

#ifndef TLSBROKER_PROTOCOL_ROLE_MESSAGES_H_
#define TLSBROKER_PROTOCOL_ROLE_MESSAGES_H_

#include <cstdint>
#include <string>

namespace tlsbroker::supervision {

// The user to become before the first byte of a stranger is read.
struct Confinement {
  static constexpr uint8_t kType = 1;
  bool change_user = false;  // false without root: uid and gid are not used
  uint32_t uid = 0;
  uint32_t gid = 0;
};

struct Start {
  static constexpr uint8_t kType = 8;
};

struct Drain {
  static constexpr uint8_t kType = 9;
  static constexpr uint32_t kNever = UINT32_MAX;
  uint32_t deadline_ms = 0;  // relayed connections that are left then are cut
};

struct Ready {
  static constexpr uint8_t kType = 16;
};

// What a child could not do with the snapshot. `subject` lets the supervisor name the line of the
// configuration; `text` is one line for a person.
struct Failed {
  static constexpr uint8_t kType = 17;
  enum class Subject : uint8_t {
    kOther = 0,
    kCertificateChain = 1,
    kCertificateKey = 2,
    kLast = kCertificateKey
  };
  Subject subject = Subject::kOther;
  uint16_t id = 0;  // of the certificate
  std::string text;
};

// Says that the event loop of the process turns.
struct Heartbeat {
  static constexpr uint8_t kType = 24;
  uint32_t lag_ms = 0;         // the longest that the loop has made a timer wait since the last one
  uint32_t busy_permille = 0;  // processor time since the last one, in parts of a processor
};

}  // namespace tlsbroker::supervision

#endif  // TLSBROKER_PROTOCOL_ROLE_MESSAGES_H_
