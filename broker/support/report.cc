// SPDX-License-Identifier: Apache-2.0
#include "broker/support/report.h"

#include <poll.h>

#include <utility>

#include "broker/support/descriptors.h"
#include "broker/support/status.h"
#include "protocol/ring.h"

namespace tlsbroker {
namespace {

// How long to wait for room: the supervisor reads at every turn of its loop.
constexpr int kPauseMs = 5;

ring::Writer& Ring() {
  static ring::Writer writer;
  return writer;
}

}  // namespace

bool OpenReports(int bell, int memory) {
  if (!ring::IsBell(bell) || !ring::IsMemory(memory)) return false;
  ring::Mapping mapping(memory);
  if (!mapping) return false;
  Ring() = ring::Writer(std::move(mapping), bell);
  return true;
}

bool Report(const supervision::Encoded& message) {
  return Ring().Send(message.bytes) == ring::Result::kOk;
}

absl::Status ReportSurely(const supervision::Encoded& message) {
  for (;;) {
    const ring::Result result = Ring().Send(message.bytes);
    if (result == ring::Result::kOk) return absl::OkStatus();
    if (result != ring::Result::kWouldBlock) return ErrnoStatus("cannot report to the supervisor");
    // When the supervisor ends, its end of the control socket hangs up.
    pollfd supervisor{kControlDescriptor, 0, 0};
    if (poll(&supervisor, 1, kPauseMs) > 0)
      return absl::UnavailableError("cannot report to the supervisor: it is gone");
  }
}

void ReportDoing(uint64_t what) { Ring().SetDoing(what); }

}  // namespace tlsbroker
