// SPDX-License-Identifier: Apache-2.0
#include "protocol/conversation.h"

#include <variant>

#include "protocol/supervision.h"

namespace tlsbroker::supervision {
namespace {

using enum Phase;
using enum Rule::Times;

constexpr uint8_t In(auto... phases) { return (static_cast<uint8_t>(phases) | ...); }

constexpr Phase kStays = kBegins;

// ---- Down ----

constexpr Rule kKeyholderHears[] = {
    {Confinement::kType, In(kBegins), kOnce, kSnapshot},
    {Certificate::kType, In(kSnapshot), kAny, kStays},
    {Inspect::kType, In(kSnapshot), kAny, kStays},
    {HandshakerChannel::kType, In(kSnapshot, kServes), kAny, kStays},
    {Start::kType, In(kSnapshot), kOnce, kServes},
};

constexpr Rule kHandshakerHears[] = {
    {Confinement::kType, In(kBegins), kOnce, kSnapshot},
    {Settings::kType, In(kSnapshot), kOnce, kStays},
    {Limits::kType, In(kSnapshot, kServes), kAny, kStays},
    {TicketKeys::kType, In(kSnapshot, kServes), kAny, kStays},
    {Certificate::kType, In(kSnapshot), kAny, kStays},
    {TrustAnchors::kType, In(kSnapshot), kAny, kStays},
    {Upstream::kType, In(kSnapshot), kAny, kStays},
    {ServiceTerms::kType, In(kSnapshot), kOnce, kStays},
    {Service::kType, In(kSnapshot), kOnce, kStays},
    {Listener::kType, In(kSnapshot), kAny, kStays},
    {Start::kType, In(kSnapshot), kOnce, kServes},
    {Accept::kType, In(kServes), kOnce, kStays},
    {Connected::kType, In(kServes), kAny, kStays},
    // May come again with a deadline, if the one before had none.
    {Drain::kType, In(kServes), kAny, kStays},
};

constexpr Rule kPorterHears[] = {
    {Confinement::kType, In(kBegins), kOnce, kSnapshot},
    {AttachPoint::kType, In(kSnapshot, kServes), kAny, kStays},
    {StatusPoint::kType, In(kSnapshot), kOnce, kStays},
    {Door::kType, In(kSnapshot, kServes), kAny, kStays},
    {Start::kType, In(kSnapshot), kOnce, kServes},
    {StatusText::kType, In(kServes), kAny, kStays},
};

constexpr Rule kLoggerHears[] = {
    {Confinement::kType, In(kBegins), kOnce, kSnapshot},
    {LogSource::kType, In(kSnapshot, kServes), kAny, kStays},
    {LogEnd::kType, In(kSnapshot, kServes), kAny, kStays},
    {LogOutput::kType, In(kSnapshot, kServes), kAny, kStays},
    {Start::kType, In(kSnapshot), kOnce, kServes},
    {Drain::kType, In(kServes), kAny, kStays},
};

// ---- Up ----

constexpr Rule kKeyholderSays[] = {
    {Inspected::kType, In(kBegins), kAny, kStays},
    {Ready::kType, In(kBegins), kOnce, kServes},
    {Failed::kType, In(kBegins), kOnce, kOver},
    {Heartbeat::kType, In(kServes), kAny, kStays},
};

constexpr Rule kHandshakerSays[] = {
    {Facts::kType, In(kBegins), kAny, kStays},
    {Ready::kType, In(kBegins), kOnce, kServes},
    {Failed::kType, In(kBegins), kOnce, kOver},
    {Heartbeat::kType, In(kServes, kDrains), kAny, kStays},
    {Counters::kType, In(kServes, kDrains), kAny, kStays},
    {LastReason::kType, In(kServes, kDrains), kAny, kStays},
    {Connect::kType, In(kServes, kDrains), kAny, kStays},
    // The handshaker goes on with the connections that it has, and wants to be replaced.
    {Failed::kType, In(kServes, kDrains), kOnce, kStays},
    // One for each Drain.
    {Draining::kType, In(kServes, kDrains), kAny, kDrains},
    {Drained::kType, In(kDrains), kOnce, kOver},
};

constexpr Rule kPorterSays[] = {
    {Ready::kType, In(kBegins), kOnce, kServes},   {Failed::kType, In(kBegins), kOnce, kOver},
    {Heartbeat::kType, In(kServes), kAny, kStays}, {Attached::kType, In(kServes), kAny, kStays},
    {Detached::kType, In(kServes), kAny, kStays},  {StatusWanted::kType, In(kServes), kAny, kStays},
};

constexpr Rule kLoggerSays[] = {
    {Ready::kType, In(kBegins), kOnce, kServes},
    {Failed::kType, In(kBegins), kOnce, kOver},
    {Heartbeat::kType, In(kServes), kAny, kStays},
    {LogHeld::kType, In(kServes), kAny, kStays},
};

}  // namespace

const std::span<const Rule> kToKeyholder = kKeyholderHears;
const std::span<const Rule> kToHandshaker = kHandshakerHears;
const std::span<const Rule> kToPorter = kPorterHears;
const std::span<const Rule> kToLogger = kLoggerHears;
const std::span<const Rule> kFromKeyholder = kKeyholderSays;
const std::span<const Rule> kFromHandshaker = kHandshakerSays;
const std::span<const Rule> kFromPorter = kPorterSays;
const std::span<const Rule> kFromLogger = kLoggerSays;

std::optional<Message> Conversation::Decode(wire::Bytes bytes, std::vector<UniqueFd> fds) {
  std::optional<Message> message = supervision::Decode(bytes, std::move(fds));
  if (!message) return std::nullopt;
  const uint8_t type = std::visit([](const auto& m) { return m.kType; }, *message);
  for (size_t i = 0; i < rules_.size(); ++i) {
    const Rule& rule = rules_[i];
    if (rule.type != type || (rule.phases & static_cast<uint8_t>(phase_)) == 0) continue;
    const uint32_t bit = 1U << i;
    if (rule.times == kOnce && (said_ & bit) != 0) return std::nullopt;
    said_ |= bit;
    if (rule.then != kStays) phase_ = rule.then;
    return message;
  }
  return std::nullopt;
}

}  // namespace tlsbroker::supervision
