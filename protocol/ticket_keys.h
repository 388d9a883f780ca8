// SPDX-License-Identifier: Apache-2.0
// The keys of session tickets, as handshakers are told them (message.h).

#ifndef TLSBROKER_PROTOCOL_TICKET_KEYS_H_
#define TLSBROKER_PROTOCOL_TICKET_KEYS_H_

#include <array>
#include <cstdint>
#include <vector>

namespace tlsbroker::supervision {

// RFC 5077 section 4 shape: a name to find the key by, a cipher key, an authentication key.
struct TicketKey {
  std::array<uint8_t, 16> name{};
  std::array<uint8_t, 32> cipher{};
  std::array<uint8_t, 32> mac{};
};

// keys[0] makes new tickets; the others are still accepted.
struct TicketKeys {
  static constexpr uint8_t kType = 3;
  std::vector<TicketKey> keys;        // 1..3
  std::array<uint8_t, 32> sealing{};  // of rekey tokens; the same for the supervisor's life
};

}  // namespace tlsbroker::supervision

#endif  // TLSBROKER_PROTOCOL_TICKET_KEYS_H_
