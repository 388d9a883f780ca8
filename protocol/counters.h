// SPDX-License-Identifier: Apache-2.0
// What handshakers count: one table for the wire, the sums, the status and its page. A counter is
// added with a line in each of the two lists here; tlsbroker-status(1) describes it, and a test
// compares both.

#ifndef TLSBROKER_PROTOCOL_COUNTERS_H_
#define TLSBROKER_PROTOCOL_COUNTERS_H_

#include <array>
#include <cstdint>

namespace tlsbroker::supervision {

// Cumulative since the start of that child, but for those that are kNow.
struct Counters {
  static constexpr uint8_t kType = 18;  // supervision.h
  uint64_t accepted = 0;
  uint64_t handshakes_full = 0;
  uint64_t handshakes_resumed = 0;
  uint64_t handshakes_failed = 0;
  uint64_t handshakes_timed_out = 0;
  uint64_t handshakes_active = 0;
  uint64_t refused_total_limit = 0;
  uint64_t refused_source_limit = 0;
  uint64_t refused_relay_limit = 0;
  uint64_t refused_ktls_required = 0;
  uint64_t handed_off_direct = 0;
  uint64_t handed_off_relay = 0;
  uint64_t relay_active = 0;
  uint64_t ktls_install_failed = 0;
  uint64_t queue_waits = 0;
  uint64_t sign_failed = 0;
  uint64_t rekeyed = 0;
  uint64_t rekey_refused = 0;
  uint64_t opened = 0;
  uint64_t open_failed = 0;
};

struct CounterRow {
  enum class Kind : uint8_t {
    kTotal,  // only grows
    kNow,    // how many there are; none when the process ends
  };
  uint64_t Counters::*value;
  const char* name;
  Kind kind;
  const char* help;  // a line for a person
};

// In the order in which people want to see them, which is that of the status and of the wire.
inline constexpr std::array kCounters = std::to_array<CounterRow>({
    {&Counters::accepted, "accepted", CounterRow::Kind::kTotal, "connections accepted"},
    {&Counters::handshakes_full, "handshakes_full", CounterRow::Kind::kTotal,
     "handshakes with a signature"},
    {&Counters::handshakes_resumed, "handshakes_resumed", CounterRow::Kind::kTotal,
     "handshakes with a session from before"},
    {&Counters::handshakes_failed, "handshakes_failed", CounterRow::Kind::kTotal,
     "handshakes that one side gave up"},
    {&Counters::handshakes_timed_out, "handshakes_timed_out", CounterRow::Kind::kTotal,
     "handshakes that took longer than handshake_timeout"},
    {&Counters::handshakes_active, "handshakes_active", CounterRow::Kind::kNow,
     "handshakes under way"},
    {&Counters::refused_total_limit, "refused_total_limit", CounterRow::Kind::kTotal,
     "connections closed at max_handshakes"},
    {&Counters::refused_source_limit, "refused_source_limit", CounterRow::Kind::kTotal,
     "connections closed at max_handshakes_per_source"},
    {&Counters::refused_relay_limit, "refused_relay_limit", CounterRow::Kind::kTotal,
     "connections closed at max_relayed or max_relayed_per_source"},
    {&Counters::refused_ktls_required, "refused_ktls_required", CounterRow::Kind::kTotal,
     "connections closed because the kernel did not take them and ktls is \"require\""},
    {&Counters::handed_off_direct, "handed_off_direct", CounterRow::Kind::kTotal,
     "connections handed off to workers, with the kernel's TLS"},
    {&Counters::handed_off_relay, "handed_off_relay", CounterRow::Kind::kTotal,
     "connections handed off to workers, relayed"},
    {&Counters::relay_active, "relay_active", CounterRow::Kind::kNow,
     "connections that are being relayed"},
    {&Counters::ktls_install_failed, "ktls_install_failed", CounterRow::Kind::kTotal,
     "connections whose keys the kernel refused"},
    {&Counters::queue_waits, "queue_waits", CounterRow::Kind::kTotal,
     "hand-offs that found the queue full"},
    {&Counters::sign_failed, "sign_failed", CounterRow::Kind::kTotal,
     "signatures that the keyholder refused or did not make"},
    {&Counters::rekeyed, "rekeyed", CounterRow::Kind::kTotal,
     "keys of direct connections that followed a KeyUpdate, each direction by itself"},
    {&Counters::rekey_refused, "rekey_refused", CounterRow::Kind::kTotal,
     "requests for next keys that were malformed, had a token that is not the connection's current "
     "one, or failed in the kernel"},
    {&Counters::opened, "opened", CounterRow::Kind::kTotal,
     "connections that workers asked for: wrapped and dialled"},
    {&Counters::open_failed, "open_failed", CounterRow::Kind::kTotal,
     "connections that workers asked for and did not get"},
});
static_assert(sizeof(Counters) == kCounters.size() * sizeof(uint64_t), "each has its row");

}  // namespace tlsbroker::supervision

#endif  // TLSBROKER_PROTOCOL_COUNTERS_H_
