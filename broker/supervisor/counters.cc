// SPDX-License-Identifier: Apache-2.0
#include "broker/supervisor/counters.h"

#include <algorithm>
#include <limits>

namespace tlsbroker::supervisor {

void Add(supervision::Counters& sum, const supervision::Counters& part) {
  for (const supervision::CounterRow& row : supervision::kCounters) {
    // A handshaker that was taken over may report any number: the sum must not overflow and go
    // backwards.
    uint64_t& total = sum.*row.value;
    total += std::min(part.*row.value, std::numeric_limits<uint64_t>::max() - total);
  }
}

void AddEnded(supervision::Counters& sum, supervision::Counters part) {
  for (const supervision::CounterRow& row : supervision::kCounters) {
    if (row.kind == supervision::CounterRow::Kind::kNow) part.*row.value = 0;
  }
  Add(sum, part);
}

}  // namespace tlsbroker::supervisor
