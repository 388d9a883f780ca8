// SPDX-License-Identifier: Apache-2.0
#include "broker/handshaker/tcp_connection.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <algorithm>

#include "broker/handshaker/ktls_socket.h"

namespace tlsbroker {
namespace {

// Without these a client that vanishes without a FIN, or whose address has changed, would hold its
// connection for ever. The probes begin after half of the time; with TCP_USER_TIMEOUT the kernel
// ends the connection at the whole, however many probes there were (tcp(7)), and also when data is
// not acknowledged, or the client takes none, for so long.
void KeepAlive(int socket, uint32_t seconds) {
  if (seconds == 0) return;
  constexpr int kProbes = 5;
  const int time = static_cast<int>(seconds);
  const auto set = [socket](int level, int name, int value) {
    setsockopt(socket, level, name, &value, sizeof(value));
  };
  set(IPPROTO_TCP, TCP_KEEPIDLE, time / 2);
  set(IPPROTO_TCP, TCP_KEEPINTVL, std::max(time / 2 / kProbes, 1));
  set(IPPROTO_TCP, TCP_KEEPCNT, kProbes);
  set(IPPROTO_TCP, TCP_USER_TIMEOUT, time * 1000);
  set(SOL_SOCKET, SO_KEEPALIVE, 1);
}

}  // namespace

void Prepare(const Shared& shared, const Service& service, TcpConnection& connection) {
  // Session tickets and the worker's first answer are two small writes: without this, Nagle's
  // algorithm holds the answer back until the client acknowledges the tickets.
  const int on = 1;
  setsockopt(connection.socket.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
  if (!connection.of_worker) KeepAlive(connection.socket.get(), service.terms.keepalive_s);
  if (service.terms.ktls == supervision::KtlsMode::kNever) return;
  if (!shared.ktls.capabilities().ulp()) {
    connection.ulp_reason = shared.ktls.capabilities().ulp_support().reason;
    return;
  }
  connection.has_ulp = EnableUlp(connection.socket.get()).ok();
  if (!connection.has_ulp) connection.ulp_reason = "ulp-refused";
}

void AcknowledgeNow(int socket) {
  const int on = 1;
  setsockopt(socket, IPPROTO_TCP, TCP_QUICKACK, &on, sizeof(on));
}

std::string WhyNotKtls(const Shared& shared, const Service& service,
                       const TcpConnection& connection, TlsVersion version,
                       std::optional<Suite> suite) {
  if (service.terms.ktls == supervision::KtlsMode::kNever) return "ktls-never";
  if (!connection.has_ulp) return connection.ulp_reason;
  if (!suite) return "suite-unknown";
  if (!shared.ktls.Usable(version, *suite)) return shared.ktls.Reason(version, *suite);
  const bool may_rekey = version == TlsVersion::kTls13;
  if (may_rekey && service.terms.rekey == supervision::RekeyMode::kRequire &&
      !shared.ktls.CanRekey()) {
    return "kernel-no-rekey";
  }
  return "";
}

}  // namespace tlsbroker
