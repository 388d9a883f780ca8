// SPDX-License-Identifier: Apache-2.0
// Connections that do not come from the queue: a socket of the program's own, and one to an
// upstream of the configuration (PROTOCOL.md section 6). Part of libtlsbroker; runs in workers.

#include <netinet/in.h>
#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <cstring>

#include "client-lib/ask.h"
#include "client-lib/connection.h"
#include "client-lib/guarded.h"
#include "protocol/handoff.h"
#include "protocol/request.h"
#include "tlsbroker/tlsbroker.h"

namespace {

using tlsbroker::UniqueFd;
namespace client = tlsbroker::client;
namespace handoff = tlsbroker::handoff;
namespace request = tlsbroker::request;

int ErrorOf(request::Result result) {
  using request::Result;
  switch (result) {
    case Result::kDone:
      return 0;
    case Result::kBusy:
      return TLSBROKER_E_BUSY;
    case Result::kNotAllowed:
      return TLSBROKER_E_NOT_ALLOWED;
    case Result::kBadSocket:
      return -EPROTOTYPE;
    case Result::kNotConnected:
      return TLSBROKER_E_CONNECT;
    case Result::kTimeout:
      return TLSBROKER_E_TIMEOUT;
    case Result::kPeerGone:
      return TLSBROKER_E_TRUNCATED;
    case Result::kHandshake:
      return TLSBROKER_E_HANDSHAKE;
    case Result::kWrongName:
      return TLSBROKER_E_WRONG_NAME;
    case Result::kExpired:
      return TLSBROKER_E_EXPIRED;
    case Result::kSelfSigned:
      return TLSBROKER_E_SELF_SIGNED;
    case Result::kUnknownCa:
      return TLSBROKER_E_UNKNOWN_CA;
    case Result::kPin:
      return TLSBROKER_E_PIN;
    case Result::kCertificate:
      return TLSBROKER_E_CERTIFICATE;
    case Result::kNoKtls:
      return TLSBROKER_E_KTLS;
    case Result::kFailed:
      break;
  }
  return TLSBROKER_E_BROKER;
}

int Open(const tlsbroker_queue& queue, const std::vector<uint8_t>& message,
         std::span<const int> fds, tlsbroker_conn** conn) {
  const auto requests = client::RequestsOf(queue);
  if (!requests) return TLSBROKER_E_NOT_ALLOWED;
  if (const int error = client::CheckFreeDescriptor(requests->get()); error < 0) return error;
  auto answer = client::Ask(requests->get(), message, fds,
                            {.max_size = request::kMaxOpened,
                             .max_fds = 1,
                             .timeout = std::chrono::milliseconds(TLSBROKER_OPEN_TIMEOUT_MS)});
  if (!answer) return errno == ETIMEDOUT ? TLSBROKER_E_TIMEOUT : TLSBROKER_E_BROKER;
  const auto opened = request::DecodeOpened(answer->bytes);
  if (!opened) return TLSBROKER_E_HANDOFF;
  if (opened->result != request::Result::kDone) return ErrorOf(opened->result);
  auto description = handoff::Decode(opened->description);
  if (!description || answer->fds.size() != 1) return TLSBROKER_E_HANDOFF;
  *conn = new tlsbroker_conn(std::move(answer->fds[0]), *std::move(description), requests);
  return 0;
}

// The broker would refuse any other socket, or stop reading requests when it gets one.
bool IsConnectedTcp(int fd) {
  const auto option = [fd](int name) {
    int value = -1;
    socklen_t size = sizeof(value);
    return getsockopt(fd, SOL_SOCKET, name, &value, &size) == 0 ? value : -1;
  };
  const int domain = option(SO_DOMAIN);
  sockaddr_storage peer{};
  socklen_t size = sizeof(peer);
  return (domain == AF_INET || domain == AF_INET6) && option(SO_PROTOCOL) == IPPROTO_TCP &&
         getpeername(fd, reinterpret_cast<sockaddr*>(&peer), &size) == 0;
}

int MakeWrap(tlsbroker_role role, const tlsbroker_wrap_options* options, request::Wrap& wrap) {
  if (role != TLSBROKER_SERVER && role != TLSBROKER_CLIENT) return -EINVAL;
  wrap.role = static_cast<request::Role>(role);
  if (role == TLSBROKER_SERVER) return options == nullptr ? 0 : -EINVAL;
  if (options == nullptr || options->size < sizeof(*options) || options->name == nullptr ||
      options->alpn_count > request::kMaxAlpn) {
    return -EINVAL;
  }
  wrap.name = options->name;
  wrap.alpn.assign(options->alpn, options->alpn + options->alpn_count);
  if (options->certificate != nullptr) {
    wrap.certificate = options->certificate;
    if (wrap.certificate.empty()) return -EINVAL;
  }
  return 0;
}

}  // namespace

int tlsbroker_wrap(tlsbroker_queue* queue, int fd, enum tlsbroker_role role,
                   const struct tlsbroker_wrap_options* options, tlsbroker_conn** conn) {
  return client::Guarded([&] {
    request::Wrap wrap;
    if (const int error = MakeWrap(role, options, wrap); error < 0) return error;
    const std::vector<uint8_t> message = request::Encode(wrap);
    if (message.empty() || message.size() > request::kMaxMessage) return -EINVAL;
    if (!IsConnectedTcp(fd)) return -EPROTOTYPE;
    const int fds[] = {fd};
    const int result = Open(*queue, message, fds, conn);
    if (result == 0) const UniqueFd taken(fd);
    return result;
  });
}

int tlsbroker_dial(tlsbroker_queue* queue, const char* upstream, tlsbroker_conn** conn) {
  return client::Guarded([&] {
    const std::vector<uint8_t> message = request::Encode(request::Dial{upstream});
    if (message.empty()) return -EINVAL;
    return Open(*queue, message, {}, conn);
  });
}
