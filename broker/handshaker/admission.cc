// SPDX-License-Identifier: Apache-2.0
#include "broker/handshaker/admission.h"

#include <algorithm>

namespace tlsbroker {

Admission::Place::Source Admission::SourceOf(const handoff::Endpoint& peer) {
  Place::Source source{};
  const size_t significant = peer.ipv6 ? 8 : 4;
  std::copy_n(peer.address.begin(), significant, source.begin());
  source.back() = peer.ipv6 ? 6 : 4;
  return source;
}

Admission::Verdict Admission::Admit(const handoff::Endpoint& peer, Place& place) {
  if (active_ >= max_total_) return Verdict::kTotalLimit;
  const Place::Source source = SourceOf(peer);
  uint32_t& count = per_source_[source];
  if (count >= max_per_source_) return Verdict::kSourceLimit;
  ++count;
  ++active_;
  place = Place(this, source);
  return Verdict::kAdmitted;
}

void Admission::Place::Release() {
  Admission* admission = std::exchange(admission_, nullptr);
  if (admission == nullptr) return;
  --admission->active_;
  const auto it = admission->per_source_.find(source_);
  if (--it->second == 0) admission->per_source_.erase(it);
}

}  // namespace tlsbroker
