// SPDX-License-Identifier: Apache-2.0
// How a service works: values of the configuration that go to the handshakers and the keyholder as
// they are. kLast ends each list, for decoders.

#ifndef TLSBROKER_PROTOCOL_MODES_H_
#define TLSBROKER_PROTOCOL_MODES_H_

#include <array>
#include <cstdint>
#include <string>
#include <vector>

namespace tlsbroker::supervision {

enum class Policy : uint8_t {
  kIntermediate = 0,  // TLS 1.2 and 1.3
  kModern = 1,        // TLS 1.3
  kTls12 = 2,         // TLS 1.2
  kLast = kTls12
};
enum class KtlsMode : uint8_t { kPrefer = 0, kRequire = 1, kNever = 2, kLast = kNever };
enum class RekeyMode : uint8_t { kPrefer = 0, kRequire = 1, kLast = kRequire };

// Who writes a pipe of the log.
enum class LogSourceKind : uint8_t {
  kRole = 0,     // a process of the broker
  kWorker = 1,   // a worker, and whatever it starts
  kWorkers = 2,  // the logger of the workers of a service
  kLast = kWorkers,
};

// The keys of a service that its handshakers get as the configuration has them. A key that is added
// here is in the reader's ServiceConfig, in the snapshot and in the handshaker's Service at once;
// supervision_fields.h lists it for the wire.
struct ServiceTerms {
  static constexpr uint8_t kType = 26;  // supervision.h
  Policy policy = Policy::kIntermediate;
  KtlsMode ktls = KtlsMode::kPrefer;
  RekeyMode rekey = RekeyMode::kPrefer;
  std::vector<std::string> alpn;  // in order of preference
  bool wrap_server = false;       // workers may ask to be TLS servers on their own connections
  uint32_t tickets = 1;           // session tickets after a full handshake
  // A client that gives no sign of life for so long is gone; 0: only the kernel's defaults.
  uint32_t keepalive_s = 300;
};

// SHA-256 of a certificate's SubjectPublicKeyInfo.
using Pin = std::array<uint8_t, 32>;

}  // namespace tlsbroker::supervision

#endif  // TLSBROKER_PROTOCOL_MODES_H_
