// SPDX-License-Identifier: Apache-2.0
// The one message that a worker gets when it attaches itself to a service: PROTOCOL.md section 1.1.
// Written by the porter, read by the worker; nothing goes the other way.

#ifndef TLSBROKER_PROTOCOL_ATTACH_H_
#define TLSBROKER_PROTOCOL_ATTACH_H_

#include <array>
#include <cstdint>
#include <optional>

#include "protocol/wire.h"

namespace tlsbroker::attach {

inline constexpr size_t kSize = 16;

enum class Answer : uint8_t {
  kAttached = 0,    // the queue comes with it
  kNotAllowed = 1,  // the user is not in the service's list
  kTooMany = 2,     // no more can be attached
};

std::array<uint8_t, kSize> Encode(Answer answer);

// nullopt for another size, signature or version, and for an answer that version 1 does not have.
std::optional<Answer> Decode(wire::Bytes bytes);

}  // namespace tlsbroker::attach

#endif  // TLSBROKER_PROTOCOL_ATTACH_H_
