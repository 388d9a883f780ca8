#include "broker/handshaker/acceptor.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <algorithm>
#include <asio/co_spawn.hpp>
#include <asio/detached.hpp>
#include <asio/post.hpp>
#include <asio/redirect_error.hpp>
#include <asio/steady_timer.hpp>
#include <asio/use_awaitable.hpp>
#include <cerrno>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "broker/handshaker/connection.h"
#include "broker/handshaker/ktls_socket.h"
#include "broker/support/log.h"
#include "broker/support/status.h"

namespace tlsbroker {
namespace {

// After so many connections in a row the others get their turn.
constexpr int kBurst = 64;

// Without descriptors or memory accept(2) fails at once, again and again.
constexpr std::chrono::milliseconds kExhaustedPause{100};

bool IsMappedIpv4(const in6_addr& address) { return IN6_IS_ADDR_V4MAPPED(&address); }

handoff::Endpoint ToEndpoint(const sockaddr_storage& from) {
  handoff::Endpoint endpoint;
  if (from.ss_family == AF_INET6) {
    const auto& in6 = reinterpret_cast<const sockaddr_in6&>(from);
    const uint8_t* bytes = in6.sin6_addr.s6_addr;
    endpoint.port = ntohs(in6.sin6_port);
    endpoint.ipv6 = !IsMappedIpv4(in6.sin6_addr);
    if (endpoint.ipv6) {
      std::copy_n(bytes, 16, endpoint.address.begin());
    } else {
      std::copy_n(bytes + 12, 4, endpoint.address.begin());
    }
    return endpoint;
  }
  const auto& in4 = reinterpret_cast<const sockaddr_in&>(from);
  endpoint.port = ntohs(in4.sin_port);
  std::memcpy(endpoint.address.data(), &in4.sin_addr, 4);
  return endpoint;
}

// What accept(2) may return for a connection that was fine a moment ago (accept(2), "Error
// handling"): the next one is to be tried.
bool IsPassing(int error) {
  switch (error) {
    case EINTR:
    case ECONNABORTED:
    case ENETDOWN:
    case EPROTO:
    case ENOPROTOOPT:
    case EHOSTDOWN:
    case ENONET:
    case EHOSTUNREACH:
    case EOPNOTSUPP:
    case ENETUNREACH:
    case EPERM:
      return true;
    default:
      return false;
  }
}

bool IsTcp(const sockaddr_storage& peer) {
  return peer.ss_family == AF_INET || peer.ss_family == AF_INET6;
}

// Socket options that have to be set before the first byte.
void Prepare(const Shared& shared, const Service& service, Accepted& connection) {
  // Session tickets and the worker's first answer are two small writes: without this, Nagle's
  // algorithm holds the answer back until the client acknowledges the tickets.
  const int on = 1;
  setsockopt(connection.socket.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
  if (service.ktls == supervision::KtlsMode::kNever) return;
  if (!shared.ktls.capabilities().ulp()) {
    connection.ulp_reason = shared.ktls.capabilities().ulp_support().reason;
    return;
  }
  connection.has_ulp = EnableUlp(connection.socket.get()).ok();
  if (!connection.has_ulp) connection.ulp_reason = "ulp-refused";
}

void Admit(Shared& shared, Service& service, UniqueFd socket, const sockaddr_storage& peer) {
  sockaddr_storage local{};
  socklen_t size = sizeof(local);
  if (getsockname(socket.get(), reinterpret_cast<sockaddr*>(&local), &size) != 0) return;
  const handoff::Endpoint from = ToEndpoint(peer);
  Admission::Ticket ticket;
  ++shared.counters.accepted;
  switch (shared.admission.Admit(from, ticket)) {
    case Admission::Verdict::kTotalLimit:
      ++shared.counters.refused_total_limit;
      return;
    case Admission::Verdict::kSourceLimit:
      ++shared.counters.refused_source_limit;
      return;
    case Admission::Verdict::kAdmitted:
      break;
  }
  Accepted connection{AsyncFd(shared.io.get_executor(), std::move(socket)),
                      from,
                      ToEndpoint(local),
                      std::move(ticket),
                      false,
                      ""};
  Prepare(shared, service, connection);
  asio::co_spawn(shared.io, ServeConnection(shared, service, std::move(connection)),
                 asio::detached);
}

// A pause, since the listener stays readable as long as descriptors or memory are missing.
asio::awaitable<void> PauseAfter(const Shared& shared, int error) {
  log::Warning(absl::StrCat("accept: ", std::strerror(error), "; pausing"));
  asio::steady_timer pause(shared.io, kExhaustedPause);
  co_await pause.async_wait(asio::use_awaitable);
}

}  // namespace

asio::awaitable<void> AcceptConnections(Shared& shared, Service& service, AsyncFd& listener) {
  int burst = 0;
  while (!listener.cancelled()) {
    co_await service.queue.WaitForRoom();
    if (listener.cancelled()) co_return;
    sockaddr_storage peer{};
    socklen_t size = sizeof(peer);
    UniqueFd socket(accept4(listener.get(), reinterpret_cast<sockaddr*>(&peer), &size,
                            SOCK_NONBLOCK | SOCK_CLOEXEC));
    if (socket && IsTcp(peer)) {
      Admit(shared, service, std::move(socket), peer);
      if (++burst % kBurst == 0) co_await asio::post(shared.io, asio::use_awaitable);
    } else if (!socket && errno == EAGAIN) {
      if (!co_await listener.WaitReadable()) co_return;
    } else if (!socket && !IsPassing(errno)) {
      co_await PauseAfter(shared, errno);
    }
  }
}

}  // namespace tlsbroker
