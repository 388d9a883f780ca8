// SPDX-License-Identifier: Apache-2.0
// What a handshaker tells people (message.h), beside its counters.

#ifndef TLSBROKER_PROTOCOL_FACTS_H_
#define TLSBROKER_PROTOCOL_FACTS_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace tlsbroker::supervision {

// What a handshaker found out and people want to see. In several messages if one has no room for
// all.
struct Facts {
  static constexpr uint8_t kType = 20;
  static constexpr size_t kMaxExpiries = 256;  // in one message
  struct Expiry {
    uint16_t certificate_id = 0;
    uint64_t not_after = 0;  // seconds since 1970
  };
  struct KernelSuite {
    std::string name;    // "TLSv1.3 aes-128-gcm"
    std::string reason;  // why the kernel does not take it, as in PROTOCOL.md; empty if it does
  };
  std::vector<Expiry> expiries;
  std::vector<KernelSuite> kernel_suites;
};

}  // namespace tlsbroker::supervision

#endif  // TLSBROKER_PROTOCOL_FACTS_H_
