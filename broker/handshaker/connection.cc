// SPDX-License-Identifier: Apache-2.0
#include "broker/handshaker/connection.h"

#include <sys/socket.h>

#include <asio/co_spawn.hpp>
#include <chrono>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "broker/handshaker/delivery.h"
#include "broker/handshaker/endpoint.h"
#include "broker/handshaker/farewell.h"
#include "broker/handshaker/handshake.h"
#include "broker/handshaker/tcp_connection.h"
#include "broker/support/coroutines.h"
#include "broker/support/log.h"

namespace tlsbroker {
namespace {

using Clock = std::chrono::steady_clock;

// In the order in which they are called.
bool Admit(Shared& shared, const handoff::Endpoint& peer, Admission::Place& place);
asio::awaitable<void> Serve(Shared& shared, const Listener& listener, TcpConnection connection);
void SayFailure(Shared& shared, const Service& service, const handoff::Endpoint& peer,
                const HandshakeResult& result);

}  // namespace

void StartConnection(Shared& shared, const Listener& listener, UniqueFd socket,
                     const handoff::Endpoint& peer) {
  sockaddr_storage local{};
  socklen_t size = sizeof(local);
  if (getsockname(socket.get(), reinterpret_cast<sockaddr*>(&local), &size) != 0) return;
  Admission::Place place;
  if (!Admit(shared, peer, place)) return;
  TcpConnection connection{.socket = AsyncFd(shared.io.get_executor(), std::move(socket)),
                           .peer = peer,
                           .local = ToEndpoint(local),
                           .place = std::move(place),
                           .ulp_reason = ""};
  Prepare(shared, listener.service, connection);
  asio::co_spawn(shared.io, Serve(shared, listener, std::move(connection)), EndsConnection());
}

namespace {

bool Admit(Shared& shared, const handoff::Endpoint& peer, Admission::Place& place) {
  ++shared.counters.accepted;
  switch (shared.handshakes.Admit(peer, place)) {
    case Admission::Verdict::kTotalLimit:
      ++shared.counters.refused_total_limit;
      return false;
    case Admission::Verdict::kSourceLimit:
      ++shared.counters.refused_source_limit;
      return false;
    case Admission::Verdict::kAdmitted:
      break;
  }
  return true;
}

// Does the handshake, then hands the connection off with kernel TLS, or starts a relay, which lives
// on after this has ended.
asio::awaitable<void> Serve(Shared& shared, const Listener& listener, TcpConnection connection) {
  const ActiveConnection active(shared);
  const Clock::time_point started = Clock::now();
  Service& service = listener.service;
  HandshakeResult result =
      co_await Handshake(shared, service, connection, shared.handshake_timeout);
  if (!result.done) {
    Count(shared, result.failure);
    SayFailure(shared, service, connection.peer, result);
    if (SentAlert(result.failure)) co_await Farewell(connection.socket);
    co_return;
  }
  connection.place.Release();
  Handshaken handshake = *std::exchange(result.done, std::nullopt);
  co_await Deliver(shared, service, std::move(connection), std::move(handshake), service.queue,
                   started);
}

// Strangers choose how many of these lines there are, so at most some are written; how many were
// not is said with the next one.
void SayFailure(Shared& shared, const Service& service, const handoff::Endpoint& peer,
                const HandshakeResult& result) {
  if (log::level() < log::Level::kInfo) return;
  if (log::level() < log::Level::kDebug && !shared.failures_said.Take(Clock::now())) {
    ++shared.failures_unsaid;
    return;
  }
  const uint64_t unsaid = std::exchange(shared.failures_unsaid, 0);
  log::Info(absl::StrCat("handshake failed", log::Field("service", service.name),
                         log::Field("peer", peer.ToString()), log::Field("sni", result.server_name),
                         log::Field("why", HandshakeFailureName(result.failure)),
                         log::Field("detail", result.detail),
                         unsaid > 0 ? log::Field("not_logged", absl::StrCat(unsaid)) : ""));
}

}  // namespace
}  // namespace tlsbroker
