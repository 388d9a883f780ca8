// SPDX-License-Identifier: Apache-2.0
// What a role says to the supervisor, over the ring that it was started with (descriptors.h).

#ifndef TLSBROKER_BROKER_SUPPORT_REPORT_H_
#define TLSBROKER_BROKER_SUPPORT_REPORT_H_

#include <cstdint>

#include "absl/status/status.h"
#include "protocol/message.h"

namespace tlsbroker {

// To be called once, before the others. False if the descriptors are no ring (protocol/ring.h).
// Afterwards the descriptor of the memory can be closed.
bool OpenReports(int bell, int memory);

// Sends one message; false if there was no room for it. Does not block.
bool Report(const supervision::Encoded& message);
template <typename M>
bool Report(const M& message) {
  return Report(supervision::EncodeOne(message));
}

// Sends a message that must not be lost, before the process serves. Waits for room, as long as that
// takes. An error if the supervisor is gone.
absl::Status ReportSurely(const supervision::Encoded& message);
template <typename M>
absl::Status ReportSurely(const M& message) {
  return ReportSurely(supervision::EncodeOne(message));
}

// Says what this process does next that may never end, and, with 0, that it has ended. If this
// process hangs there, the supervisor knows where. Costs nothing.
void ReportDoing(uint64_t what);

}  // namespace tlsbroker

#endif  // TLSBROKER_BROKER_SUPPORT_REPORT_H_
