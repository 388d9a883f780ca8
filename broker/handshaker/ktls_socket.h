// SPDX-License-Identifier: Apache-2.0
// A TCP socket whose records the kernel makes and opens, in both directions: the type exists only
// after both keys were installed and read back. The only place of the broker that calls
// setsockopt(SOL_TLS). Runs in the handshaker; trusts the kernel's answer, not its own intention.

#ifndef TLSBROKER_BROKER_HANDSHAKER_KTLS_SOCKET_H_
#define TLSBROKER_BROKER_HANDSHAKER_KTLS_SOCKET_H_

#include <cstdint>
#include <optional>
#include <span>
#include <utility>

#include "absl/status/status.h"
#include "broker/handshaker/traffic_secrets.h"
#include "protocol/unique_fd.h"

namespace tlsbroker {

enum class Direction { kTx, kRx };

// TCP_ULP "tls". The socket must be connected: do it right after accept(), since the kernel refuses
// once the peer's FIN has come (ENOTCONN). Until keys are installed the socket is plain TCP, and
// stays usable as such. The message says what would help.
absl::Status EnableUlp(int socket);

// Installs one direction and reads it back. A second time is a rekey (TLS 1.3, kernel >= 6.14;
// EBUSY before). Only for KtlsSocket, the rekey and the probe: the caller is responsible for the
// other direction, since a socket without TX keys sends plaintext.
absl::Status InstallDirection(int socket, Direction direction, const DirectionKeys& keys);

// Whether these are the keys that are installed now, whatever the record number. The broker keeps
// no state of a connection: the kernel has it.
bool HasKeys(int socket, Direction direction, Suite suite, const DirectionKeys& keys);

// Sends a record of its own of this type with TX keys. 0 or the errno of sendmsg(2), EAGAIN among
// them.
int SendRecord(int socket, uint8_t type, std::span<const uint8_t> content);

// Sends an alert (RFC 8446 section 6) as a record of its own; TX keys are installed. 0 or the errno
// of sendmsg(2), EAGAIN among them.
int SendAlertRecord(int socket, uint8_t level, uint8_t number);

enum class InstallResult {
  kOk,
  kNothingInstalled,  // TX was refused: the socket is as it was
  kTxOnly,            // RX was refused: what is written leaves as records, what is read is raw
  kInDoubt,           // what was read back is something else: only good for closing
};

class KtlsSocket {
 public:
  struct Outcome;

  // Needs EnableUlp() before. Does not block, sends nothing.
  static Outcome Install(UniqueFd socket, const SessionKeys& keys);

  KtlsSocket(KtlsSocket&&) noexcept = default;
  KtlsSocket& operator=(KtlsSocket&&) noexcept = default;

  int get() const { return socket_.get(); }
  UniqueFd Release() && { return std::move(socket_); }

 private:
  explicit KtlsSocket(UniqueFd socket) : socket_(std::move(socket)) {}

  UniqueFd socket_;
};

struct KtlsSocket::Outcome {
  InstallResult result;
  absl::Status status;               // why not, else OK
  std::optional<KtlsSocket> socket;  // kOk
  UniqueFd refused;                  // not kOk: the socket that was given
};

}  // namespace tlsbroker

#endif  // TLSBROKER_BROKER_HANDSHAKER_KTLS_SOCKET_H_
