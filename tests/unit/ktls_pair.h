// SPDX-License-Identifier: Apache-2.0
// A loopback connection with kernel TLS whose two ends got fixed keys, so that no handshake and no
// TLS library is needed and the peer can send any record. For the tests of libtlsbroker.

#ifndef TLSBROKER_TESTS_UNIT_KTLS_PAIR_H_
#define TLSBROKER_TESTS_UNIT_KTLS_PAIR_H_

#include <arpa/inet.h>
#include <linux/tls.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <string_view>
#include <utility>

#include "protocol/unique_fd.h"

namespace tlsbroker {

// Whether this machine must be able to do `what` ("ktls", "rekey"): then no skip is allowed.
inline bool Expected(std::string_view what) {
  const char* list = getenv("TLSBROKER_EXPECT");
  return list != nullptr && std::string_view(list).find(what) != std::string_view::npos;
}

inline std::pair<UniqueFd, UniqueFd> TcpPair() {
  const UniqueFd listener(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof(address);
  auto* any = reinterpret_cast<sockaddr*>(&address);
  UniqueFd client(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (bind(listener.get(), any, size) != 0 || listen(listener.get(), 1) != 0 ||
      getsockname(listener.get(), any, &size) != 0 || connect(client.get(), any, size) != 0)
    return {};
  return {std::move(client), UniqueFd(accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC))};
}

// `direction` is TLS_TX or TLS_RX. Record numbers start at 0.
inline bool InstallKey(int socket, int direction, uint16_t version) {
  tls12_crypto_info_aes_gcm_128 keys{};
  keys.info = {version, TLS_CIPHER_AES_GCM_128};
  std::memset(keys.key, 'k', sizeof(keys.key));
  return setsockopt(socket, SOL_TLS, direction, &keys, sizeof(keys)) == 0;
}

inline bool InstallKeys(int socket, uint16_t version) {
  return setsockopt(socket, SOL_TCP, TCP_ULP, "tls", 3) == 0 &&
         InstallKey(socket, TLS_TX, version) && InstallKey(socket, TLS_RX, version);
}

inline bool SendRecord(int socket, uint8_t type, std::string_view content) {
  iovec iov{const_cast<char*>(content.data()), content.size()};
  alignas(cmsghdr) char control[CMSG_SPACE(1)] = {};
  msghdr header{};
  header.msg_iov = &iov;
  header.msg_iovlen = 1;
  header.msg_control = control;
  header.msg_controllen = sizeof(control);
  cmsghdr* c = CMSG_FIRSTHDR(&header);
  *c = {CMSG_LEN(1), SOL_TLS, TLS_SET_RECORD_TYPE};
  *CMSG_DATA(c) = type;
  return sendmsg(socket, &header, MSG_NOSIGNAL) == static_cast<ssize_t>(content.size());
}

}  // namespace tlsbroker

#endif  // TLSBROKER_TESTS_UNIT_KTLS_PAIR_H_
