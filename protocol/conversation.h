// SPDX-License-Identifier: Apache-2.0
// What may be said on each control channel, and when: one table for each process that hears or
// speaks. A message that the table does not have, or that comes in another phase or too often, is
// refused.

#ifndef TLSBROKER_PROTOCOL_CONVERSATION_H_
#define TLSBROKER_PROTOCOL_CONVERSATION_H_

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "protocol/message.h"

namespace tlsbroker::supervision {

// Each is one bit, for sets of phases.
enum class Phase : uint8_t {
  kBegins = 1,    // nothing was said yet
  kSnapshot = 2,  // until Start
  kServes = 4,
  kDrains = 8,
  kOver = 16,
};

struct Rule {
  enum class Times : uint8_t { kOnce, kAny };
  uint8_t type;    // Message::kType
  uint8_t phases;  // in which it may be said
  Times times;
  Phase then;  // kBegins: the phase stays
};

// ---- Down, from the supervisor ----

extern const std::span<const Rule> kToKeyholder;
extern const std::span<const Rule> kToHandshaker;
extern const std::span<const Rule> kToPorter;
extern const std::span<const Rule> kToLogger;

// ---- Up; what a child says before Ready it says in kBegins ----

extern const std::span<const Rule> kFromKeyholder;
extern const std::span<const Rule> kFromHandshaker;
extern const std::span<const Rule> kFromPorter;
extern const std::span<const Rule> kFromLogger;

// One channel, as its receiver hears it.
class Conversation {
 public:
  explicit Conversation(std::span<const Rule> rules) : rules_(rules) {}

  // As supervision::Decode(); nullopt also for a message that may not be said now.
  std::optional<Message> Decode(wire::Bytes bytes, std::vector<UniqueFd> fds);

  Phase phase() const { return phase_; }

 private:
  std::span<const Rule> rules_;
  Phase phase_ = Phase::kBegins;
  uint32_t said_ = 0;  // one bit for each rule that has been used
};

}  // namespace tlsbroker::supervision

#endif  // TLSBROKER_PROTOCOL_CONVERSATION_H_
