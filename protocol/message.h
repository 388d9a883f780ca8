// SPDX-License-Identifier: Apache-2.0
// What crosses between the supervisor and its children: down, over a control socket, the
// configuration snapshot of a service's generation and the ticket keys; up, over a ring, readiness,
// heartbeats and counters. Internal, same version on both ends by construction, so there is no
// version number; everything is still decoded as if a stranger had written it.
//
// A message is u8 type, then TLVs (fields.h). A kType belongs to one message for ever: a number
// that was used for something else is not used again (15, 21). supervision_fields.h lists what is
// in each.
//
// Down: one SOCK_SEQPACKET message each, with descriptors. The supervisor has shut its end for
// reading. Up: the same messages in memory (ring.h), of at most ring::kMaxMessage bytes and without
// descriptors, which memory cannot carry. conversation.h says who may say what, and when. End of
// file on the control socket tells a child to end at once.

#ifndef TLSBROKER_PROTOCOL_MESSAGE_H_
#define TLSBROKER_PROTOCOL_MESSAGE_H_

#include <string.h>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <utility>
#include <variant>
#include <vector>

#include "protocol/unique_fd.h"
#include "protocol/wire.h"

namespace tlsbroker::supervision {

inline constexpr size_t kMaxMessage = 128 * 1024;
inline constexpr std::chrono::milliseconds kHeartbeatPeriod{500};

// Each is in the header of those who say or hear it; supervision.h has them all. Here is enough to
// pass a message on.
struct Accept;
struct AttachPoint;
struct Attached;
struct Certificate;
struct Confinement;
struct Connect;
struct Connected;
struct Counters;
struct Detached;
struct Door;
struct Drain;
struct Drained;
struct Draining;
struct Facts;
struct Failed;
struct HandshakerChannel;
struct Heartbeat;
struct Inspect;
struct Inspected;
struct LastReason;
struct Limits;
struct Listener;
struct LogEnd;
struct LogHeld;
struct LogOutput;
struct LogSource;
struct Ready;
struct Service;
struct ServiceTerms;
struct Settings;
struct Start;
struct StatusPoint;
struct StatusText;
struct StatusWanted;
struct TicketKeys;
struct TrustAnchors;
struct Upstream;

using Message =
    std::variant<Confinement, Settings, TicketKeys, Certificate, Service, Listener,
                 HandshakerChannel, Start, Drain, Ready, Failed, Counters, Drained, Facts,
                 TrustAnchors, Upstream, ServiceTerms, Connect, Connected, Accept, Draining, Limits,
                 Heartbeat, LastReason, Door, AttachPoint, StatusPoint, StatusWanted, StatusText,
                 Attached, Detached, LogSource, LogEnd, LogOutput, LogHeld, Inspect, Inspected>;

// A message as it goes over the socket. `fds` borrows from the message that was encoded.
// Its bytes may be keys: they are wiped wherever it ends, and there is one copy of them.
struct Encoded {
  Encoded() = default;
  Encoded(Encoded&& other) noexcept { *this = std::move(other); }
  Encoded& operator=(Encoded&& other) noexcept {
    bytes.swap(other.bytes);
    fds.swap(other.fds);
    return *this;
  }
  ~Encoded() {
    if (!bytes.empty()) explicit_bzero(bytes.data(), bytes.size());
  }

  std::vector<uint8_t> bytes;
  std::vector<int> fds;
};
// `bytes` is empty for what Decode would refuse.
Encoded Encode(const Message& message);
// The same for a sender who knows this message and no others. `M` is one of Message's;
// supervision.cc has the function for each.
template <typename M>
Encoded EncodeOne(const M& message);
template <>
Encoded EncodeOne(const Message& message);

// The bytes of a message that may not have its descriptors yet, to compare it with another one.
std::vector<uint8_t> EncodeValues(const Message& message);

// nullopt for anything that Encode cannot have written: unknown type, missing, doubled or unknown
// TLV, a value out of range, trailing bytes, the wrong number of descriptors.
std::optional<Message> Decode(wire::Bytes bytes, std::vector<UniqueFd> fds);

}  // namespace tlsbroker::supervision

#endif  // TLSBROKER_PROTOCOL_MESSAGE_H_
