// SPDX-License-Identifier: Apache-2.0
#include "broker/handshaker/rekey.h"

#include <netinet/in.h>
#include <openssl/ssl3.h>
#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <utility>

#include "broker/handshaker/ktls_socket.h"
#include "broker/handshaker/rekey_token.h"
#include "broker/support/status.h"

namespace tlsbroker {
namespace {

using request::Status;

// RFC 8446 section 4.6.3: update_not_requested.
constexpr std::array<uint8_t, 5> kKeyUpdate = {24, 0, 0, 1, 0};

RekeyOutcome Outcome(Status status, absl::Status why) {
  return {.answer = {.status = status, .token = {}}, .status = std::move(why)};
}

// Refuses old and foreign tokens: the keys that follow from their secrets are not those of the
// socket.
absl::Status CheckIsCurrent(OSSL_LIB_CTX* library, const TokenContent& content, int socket) {
  const SecretBytes& ours = content.we_are_server ? content.secrets.server : content.secrets.client;
  const SecretBytes& theirs =
      content.we_are_server ? content.secrets.client : content.secrets.server;
  for (const auto& [direction, secret] :
       {std::pair(Direction::kTx, &ours), std::pair(Direction::kRx, &theirs)}) {
    ASSIGN_OR_RETURN(const DirectionKeys keys,
                     DeriveTls13Direction(library, content.suite, *secret, 0));
    if (!HasKeys(socket, direction, content.suite, keys)) {
      return absl::PermissionDeniedError("the token is not of the keys that the connection has");
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<TokenContent> CheckToken(OSSL_LIB_CTX* library, const SecretBytes& sealing,
                                        const request::Rekey& rekey, int socket) {
  const auto cookie = CookieOf(socket);
  if (!cookie) return absl::InvalidArgumentError("not a TCP socket");
  ASSIGN_OR_RETURN(TokenContent content, OpenToken(library, sealing, rekey.token));
  if (content.cookie != *cookie) {
    return absl::PermissionDeniedError("the token is another connection's");
  }
  RETURN_IF_ERROR(CheckIsCurrent(library, content, socket));
  return content;
}

}  // namespace

std::optional<uint64_t> CookieOf(int socket) {
  int protocol = 0;
  socklen_t size = sizeof(protocol);
  if (getsockopt(socket, SOL_SOCKET, SO_PROTOCOL, &protocol, &size) != 0 ||
      protocol != IPPROTO_TCP) {
    return std::nullopt;
  }
  uint64_t cookie = 0;
  size = sizeof(cookie);
  if (getsockopt(socket, SOL_SOCKET, SO_COOKIE, &cookie, &size) != 0) return std::nullopt;
  return cookie;
}

RekeyOutcome NextKeys(OSSL_LIB_CTX* library, const SecretBytes& sealing,
                      const request::Rekey& rekey, int socket) {
  auto content = CheckToken(library, sealing, rekey, socket);
  if (!content.ok()) return Outcome(Status::kRefused, content.status());
  const bool sending = rekey.direction == request::Direction::kSend;
  // The server's secret is that of what the server sends.
  SecretBytes& secret =
      sending == content->we_are_server ? content->secrets.server : content->secrets.client;
  auto next = NextSecret(library, content->suite, secret);
  if (!next.ok()) return Outcome(Status::kFailed, next.status());
  const auto keys = DeriveTls13Direction(library, content->suite, *next, 0);
  if (!keys.ok()) return Outcome(Status::kFailed, keys.status());
  secret = *std::move(next);
  auto token = SealToken(library, sealing, *content);
  if (!token.ok()) return Outcome(Status::kFailed, token.status());
  // Everything else that can fail has succeeded: only the kernel is left.
  if (sending) {
    const int error = SendRecord(socket, SSL3_RT_HANDSHAKE, kKeyUpdate);
    if (error == EAGAIN) return Outcome(Status::kBusy, absl::UnavailableError("no room"));
    if (error != 0) return Outcome(Status::kFailed, absl::ErrnoToStatus(error, "KeyUpdate"));
  }
  const absl::Status installed =
      InstallDirection(socket, sending ? Direction::kTx : Direction::kRx, *keys);
  if (!installed.ok()) return Outcome(Status::kFailed, installed);
  return {.answer = {.status = Status::kDone, .token = *std::move(token)}, .status = {}};
}

}  // namespace tlsbroker
