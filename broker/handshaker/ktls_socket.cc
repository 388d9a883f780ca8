// SPDX-License-Identifier: Apache-2.0
// Installs session keys in the kernel. TX goes first, because of what is left when the second
// direction is refused. With TX alone whatever is written, by mistake or on purpose, leaves as a
// record, and the raw records that come in can still be opened by OpenSSL. With RX alone every
// write leaves in clear, alerts included. Both were observed (tests/interop/ktls_socket_test).

#include "broker/handshaker/ktls_socket.h"

#include <linux/tls.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/crypto.h>
#include <openssl/ssl3.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include <array>
#include <cerrno>

#include "absl/strings/str_cat.h"
#include "broker/handshaker/crypto_info.h"
#include "broker/support/status.h"

#ifndef SOL_TLS
#define SOL_TLS 282
#endif

namespace tlsbroker {
namespace {

const char* OptionName(Direction direction) {
  return direction == Direction::kTx ? "TLS_TX" : "TLS_RX";
}

int OptionNumber(Direction direction) { return direction == Direction::kTx ? TLS_TX : TLS_RX; }

// net/ipv4/tcp_ulp.c; only a process with CAP_NET_ADMIN makes the kernel load the module.
const char* UlpAdvice(int error) {
  switch (error) {
    case ENOENT:
      return "the kernel has no TLS, or its module is not loaded; `modprobe tls` as root helps "
             "where the module exists";
    case ENOTCONN:
      return "the connection is not established, or the peer has closed it already";
    case EEXIST:
      return "the socket has an upper layer protocol already";
    default:
      return "";
  }
}

// net/tls/tls_main.c, do_tls_setsockopt_conf().
const char* KeyAdvice(int error) {
  switch (error) {
    case ENOENT:
      return "the kernel has no module for this AEAD, or cannot load it here";
    case ENOPROTOOPT:
      return "the socket has no TLS upper layer protocol";
    case EBUSY:
      return "keys are installed already, and this kernel does not replace them";
    case EINVAL:
      return "the kernel does not know this version or suite";
    default:
      return "";
  }
}

// strerror() has no text for the kernel's internal ENOTSUPP, which net/tls lets through.
absl::Status Refused(absl::string_view what, int error, absl::string_view advice) {
  constexpr int kKernelEnotsupp = 524;
  if (error == kKernelEnotsupp) error = EOPNOTSUPP;
  absl::Status plain = absl::ErrnoToStatus(error, what);
  if (advice.empty()) return plain;
  return absl::Status(plain.code(), absl::StrCat(plain.message(), " (", advice, ")"));
}

absl::Status ReadBack(int socket, Direction direction, const DirectionKeys& keys) {
  const std::span<const uint8_t> wanted = keys.crypto_info.bytes();
  SecretBytes installed;
  const std::span<uint8_t> room = installed.Resize(wanted.size());
  socklen_t size = static_cast<socklen_t>(room.size());
  if (getsockopt(socket, SOL_TLS, OptionNumber(direction), room.data(), &size) != 0) {
    return ErrnoStatus(absl::StrCat("reading ", OptionName(direction), " back"));
  }
  if (size != wanted.size() || CRYPTO_memcmp(room.data(), wanted.data(), wanted.size()) != 0) {
    return absl::DataLossError(
        absl::StrCat(OptionName(direction), " read back is not what was installed"));
  }
  return absl::OkStatus();
}

// Derivation always fills both structures. They are checked all the same: an empty one would be
// noticed only after the first direction was installed.
bool Complete(const SessionKeys& keys, const DirectionKeys& direction) {
  const CryptoInfoLayout layout = LayoutOf(keys.suite);
  const auto bytes = direction.crypto_info.bytes();
  if (bytes.size() != layout.size()) return false;
  const tls_crypto_info expected = {KernelVersion(keys.version), layout.cipher_type};
  return memcmp(bytes.data(), &expected, sizeof(expected)) == 0;
}

// Separate from ReadBack(): whether anything was installed decides what the socket is still good
// for.
absl::Status SetKeys(int socket, Direction direction, const DirectionKeys& keys) {
  const auto bytes = keys.crypto_info.bytes();
  if (setsockopt(socket, SOL_TLS, OptionNumber(direction), bytes.data(),
                 static_cast<socklen_t>(bytes.size())) == 0) {
    return absl::OkStatus();
  }
  const int error = errno;
  return Refused(OptionName(direction), error, KeyAdvice(error));
}

}  // namespace

absl::Status EnableUlp(int socket) {
  static constexpr char kUlp[] = "tls";
  if (setsockopt(socket, IPPROTO_TCP, TCP_ULP, kUlp, sizeof(kUlp)) == 0) return absl::OkStatus();
  const int error = errno;
  return Refused("TCP_ULP \"tls\"", error, UlpAdvice(error));
}

absl::Status InstallDirection(int socket, Direction direction, const DirectionKeys& keys) {
  RETURN_IF_ERROR(SetKeys(socket, direction, keys));
  return ReadBack(socket, direction, keys);
}

bool HasKeys(int socket, Direction direction, Suite suite, const DirectionKeys& keys) {
  const std::span<const uint8_t> wanted = keys.crypto_info.bytes();
  SecretBytes installed;
  const std::span<uint8_t> room = installed.Resize(wanted.size());
  socklen_t size = static_cast<socklen_t>(room.size());
  if (wanted.empty() ||
      getsockopt(socket, SOL_TLS, OptionNumber(direction), room.data(), &size) != 0 ||
      size != wanted.size() || memcmp(room.data(), wanted.data(), sizeof(tls_crypto_info)) != 0) {
    return false;
  }
  const auto now = FieldsOf(suite, std::span<const uint8_t>(room));
  const auto expected = FieldsOf(suite, wanted);
  return CRYPTO_memcmp(now.key.data(), expected.key.data(), expected.key.size()) == 0;
}

int SendRecord(int socket, uint8_t type, std::span<const uint8_t> content) {
  iovec part = {const_cast<uint8_t*>(content.data()), content.size()};
  alignas(cmsghdr) std::array<uint8_t, CMSG_SPACE(sizeof(uint8_t))> control{};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = control.data();
  message.msg_controllen = control.size();
  cmsghdr* header = CMSG_FIRSTHDR(&message);
  header->cmsg_level = SOL_TLS;
  header->cmsg_type = TLS_SET_RECORD_TYPE;
  header->cmsg_len = CMSG_LEN(sizeof(uint8_t));
  *CMSG_DATA(header) = type;
  return sendmsg(socket, &message, MSG_NOSIGNAL | MSG_DONTWAIT) >= 0 ? 0 : errno;
}

int SendAlertRecord(int socket, uint8_t level, uint8_t number) {
  const uint8_t alert[] = {level, number};
  return SendRecord(socket, SSL3_RT_ALERT, alert);
}

KtlsSocket::Outcome KtlsSocket::Install(UniqueFd socket, const SessionKeys& keys) {
  const auto refuse = [&](InstallResult result, absl::Status why) {
    return Outcome{result, std::move(why), std::nullopt, std::move(socket)};
  };
  if (!Complete(keys, keys.tx) || !Complete(keys, keys.rx)) {
    return refuse(InstallResult::kNothingInstalled,
                  absl::InvalidArgumentError("session keys without a direction's structure"));
  }
  absl::Status status = SetKeys(socket.get(), Direction::kTx, keys.tx);
  if (!status.ok()) return refuse(InstallResult::kNothingInstalled, std::move(status));
  status = ReadBack(socket.get(), Direction::kTx, keys.tx);
  if (!status.ok()) return refuse(InstallResult::kInDoubt, std::move(status));
  status = SetKeys(socket.get(), Direction::kRx, keys.rx);
  if (!status.ok()) return refuse(InstallResult::kTxOnly, std::move(status));
  status = ReadBack(socket.get(), Direction::kRx, keys.rx);
  if (!status.ok()) return refuse(InstallResult::kInDoubt, std::move(status));
  return Outcome{InstallResult::kOk, absl::OkStatus(), KtlsSocket(std::move(socket)), UniqueFd()};
}

}  // namespace tlsbroker
