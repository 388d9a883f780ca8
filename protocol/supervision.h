// What crosses the control socket between the supervisor and its children, the keyholder and the
// handshakers: the configuration snapshot of a generation and the ticket keys on the way down,
// readiness and counters on the way up. Internal, same version on both ends by construction, so
// there is no version number; everything is still decoded as if a stranger had written it.
//
// One SOCK_SEQPACKET message each: u8 type, then TLVs (wire.h). Order, down:
//   keyholder:  Confinement, Certificate..., HandshakerChannel..., Start
//   handshaker: Confinement, Settings, TicketKeys, Certificate..., TrustAnchors..., Upstream...,
//               Service..., Listener..., Start; then Accept once, TicketKeys and Drain at any
//               time, and a Connected for each Connect
// Up: Ready or Failed after Start; from a handshaker Facts before Ready, then Counters,
// ServiceCounters and Connect, Failed if it accepts no more and has to be replaced, Draining when
// Drain has made it let go of its listeners, and at last Drained. End of file on the control socket
// tells a child to end at once.

#ifndef TLSBROKER_PROTOCOL_SUPERVISION_H_
#define TLSBROKER_PROTOCOL_SUPERVISION_H_

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "protocol/unique_fd.h"
#include "protocol/wire.h"

namespace tlsbroker::supervision {

inline constexpr size_t kMaxMessage = 128 * 1024;
inline constexpr size_t kMaxChain = 64 * 1024 - 1;  // bytes of PEM; one TLV holds it

enum class MessageType : uint8_t {
  kConfinement = 1,
  kSettings = 2,
  kTicketKeys = 3,
  kCertificate = 4,
  kService = 5,
  kListener = 6,
  kHandshakerChannel = 7,
  kStart = 8,
  kDrain = 9,
  kTrustAnchors = 10,
  kUpstream = 11,
  kConnected = 12,
  kAccept = 13,
  kReady = 16,
  kFailed = 17,
  kCounters = 18,
  kDrained = 19,
  kFacts = 20,
  kServiceCounters = 21,
  kConnect = 22,
  kDraining = 23,
};

// Who to become before the first byte of a stranger is read.
struct Confinement {
  bool change_user = false;  // false without root: uid and gid are not used
  uint32_t uid = 0;
  uint32_t gid = 0;
};

// fd 0 of the message: the handshaker's end of its signing channel to the keyholder; fd 1: a file
// for flock(2), opened for this handshaker alone, that all handshakers lock while they change keys.
struct Settings {
  uint16_t index = 0;  // 0, 1, ... in the generation; names the process in log lines
  uint32_t generation = 0;
  uint32_t handshake_timeout_ms = 5000;
  uint32_t max_handshakes = 0;             // under way at once in this handshaker
  uint32_t max_handshakes_per_source = 0;  // the same per source address (IPv6: per /64)
  uint32_t max_relayed = 0;                // relayed connections at once in this handshaker
  UniqueFd signing_channel;
  UniqueFd rekey_lock;
};

// RFC 5077 section 4 shape: a name to find the key by, a cipher key, an authentication key.
struct TicketKey {
  std::array<uint8_t, 16> name{};
  std::array<uint8_t, 32> cipher{};
  std::array<uint8_t, 32> mac{};
};

// keys[0] makes new tickets; the others are still accepted.
struct TicketKeys {
  std::vector<TicketKey> keys;        // 1..3
  std::array<uint8_t, 32> sealing{};  // of rekey tokens; the same for the supervisor's life
};

// To the handshakers without a key; to the keyholder with fd 0 of the message the opened key file,
// or with key_uri for what OSSL_STORE loads by name.
struct Certificate {
  uint16_t id = 0;
  std::string name;
  std::string chain_pem;
  std::string key_uri;
  UniqueFd key_file;  // may be invalid
};

enum class Policy : uint8_t { kIntermediate = 0, kModern = 1 };
enum class KtlsMode : uint8_t { kPrefer = 0, kRequire = 1, kNever = 2 };

enum class RekeyMode : uint8_t { kPrefer = 0, kRequire = 1 };

// Whom the broker's clients trust. fd 0 of the message: a PEM file, which other handshakers have as
// well.
struct TrustAnchors {
  uint16_t id = 0;
  std::string name;  // the file's, for messages
  UniqueFd file;
};

// A server that workers may have dialled.
struct Upstream {
  static constexpr size_t kPinSize = 32;
  uint16_t id = 0;
  std::string name;         // in the configuration
  std::string server_name;  // that its certificate has to have
  std::vector<std::string> alpn;
  std::vector<std::vector<uint8_t>> pins;  // SHA-256 of its SubjectPublicKeyInfo; none: any key
  uint16_t trust_id = 0;
  std::optional<uint16_t> certificate_id;  // that it is shown if it asks for one
};

// fd 0 of the message: the sending end of the service's queue; fd 1: the receiving end of its
// workers' requests.
struct Service {
  uint16_t id = 0;
  std::string name;
  Policy policy = Policy::kIntermediate;
  KtlsMode ktls = KtlsMode::kPrefer;
  RekeyMode rekey = RekeyMode::kPrefer;
  std::vector<std::string> alpn;               // in order of preference
  std::vector<uint16_t> certificate_ids;       // the first is the default
  bool wrap_server = false;                    // what its workers may ask for
  std::optional<uint16_t> wrap_trust_id;       // as a client, of whom these vouch for
  std::vector<uint16_t> wrap_certificate_ids;  // and with any of these
  std::vector<uint16_t> upstream_ids;
  UniqueFd queue;
  UniqueFd requests;
};

// fd 0 of the message: a listening TCP socket, non-blocking.
struct Listener {
  uint16_t service_id = 0;
  UniqueFd socket;
};

// To the keyholder; fd 0 of the message: its end of one handshaker's signing channel. Only the
// certificates listed may be used over it, each in the roles that are listed, and only so often.
struct HandshakerChannel {
  uint16_t index = 0;
  uint32_t max_signatures = 0;                   // a second, and not 0
  std::vector<uint16_t> certificate_ids;         // as a server
  std::vector<uint16_t> client_certificate_ids;  // as a client
  UniqueFd channel;
};

struct Start {};
// The generation is in force: what one accepts that is then given up, because another process of it
// does not start, would be cut.
struct Accept {};
struct Drain {
  uint32_t deadline_ms = 0;  // relayed connections that are left then are cut
};
struct Ready {};

// What a child could not do with the snapshot. `subject` lets the supervisor name the line of the
// configuration; `text` is one line for a person.
struct Failed {
  enum class Subject : uint8_t { kOther = 0, kCertificateChain = 1, kCertificateKey = 2 };
  Subject subject = Subject::kOther;
  uint16_t id = 0;  // of the certificate
  std::string text;
};

// Cumulative since the start of that child; a fixed list, in this order on the wire.
struct Counters {
  static constexpr size_t kCount = 20;
  uint64_t accepted = 0;
  uint64_t handshakes_full = 0;
  uint64_t handshakes_resumed = 0;
  uint64_t handshakes_failed = 0;
  uint64_t handshakes_timed_out = 0;
  uint64_t refused_total_limit = 0;
  uint64_t refused_source_limit = 0;
  uint64_t refused_relay_limit = 0;
  uint64_t refused_ktls_required = 0;
  uint64_t handed_off_direct = 0;
  uint64_t handed_off_relay = 0;
  uint64_t ktls_install_failed = 0;
  uint64_t queue_waits = 0;  // hand-offs that found the queue full
  uint64_t relay_active = 0;
  uint64_t handshakes_active = 0;
  uint64_t sign_failed = 0;
  uint64_t rekeyed = 0;        // directions that got their next keys
  uint64_t rekey_refused = 0;  // requests that were none, or with a token that is none
  uint64_t opened = 0;         // connections that workers asked for: wrapped and dialled
  uint64_t open_failed = 0;
};

// The handshakers make no connections: they ask for one to an upstream, and get a socket that is on
// its way, whatever becomes of it.
struct Connect {
  uint32_t request = 0;
  uint16_t upstream_id = 0;
};

// fd 0 of the message, if error is 0: a TCP socket that is connected, or connecting.
struct Connected {
  uint32_t request = 0;
  uint32_t error = 0;  // errno
  UniqueFd socket;
};

// The same for one service.
struct ServiceCounters {
  uint16_t service_id = 0;
  uint64_t direct = 0;
  uint64_t relay = 0;
  std::string last_reason;  // why the last one that was relayed was; empty if none was
};

// What comes is the next generation's, from then on.
struct Draining {};
struct Drained {};

// What a handshaker found out and people want to see. Several messages, where one has not room.
struct Facts {
  static constexpr size_t kMaxExpiries = 4096;  // in one message
  struct Expiry {
    uint16_t certificate_id = 0;
    uint64_t not_after = 0;  // seconds since 1970
  };
  struct KernelSuite {
    std::string name;    // "TLSv1.3 aes-128-gcm"
    std::string reason;  // why the kernel does not take it, as in PROTOCOL.md; empty if it does
  };
  std::vector<Expiry> expiries;
  std::vector<KernelSuite> kernel_suites;
};

using Message =
    std::variant<Confinement, Settings, TicketKeys, Certificate, Service, Listener,
                 HandshakerChannel, Start, Drain, Ready, Failed, Counters, Drained, Facts,
                 ServiceCounters, TrustAnchors, Upstream, Connect, Connected, Accept, Draining>;

// What goes over the socket. `fds` borrows from the message that was encoded.
struct Encoded {
  std::vector<uint8_t> bytes;
  std::vector<int> fds;
};
Encoded Encode(const Message& message);

// nullopt for anything that Encode cannot have written: unknown type, missing, doubled or unknown
// TLV, a value out of range, trailing bytes, the wrong number of descriptors.
std::optional<Message> Decode(wire::Bytes bytes, std::vector<UniqueFd> fds);

}  // namespace tlsbroker::supervision

#endif  // TLSBROKER_PROTOCOL_SUPERVISION_H_
