#include "broker/handshaker/acceptor.h"

#include <netinet/in.h>
#include <sys/socket.h>

#include <asio/co_spawn.hpp>
#include <asio/detached.hpp>
#include <asio/post.hpp>
#include <asio/redirect_error.hpp>
#include <asio/steady_timer.hpp>
#include <asio/use_awaitable.hpp>
#include <cerrno>
#include <cstring>
#include <exception>
#include <utility>

#include "absl/strings/str_cat.h"
#include "broker/handshaker/connection.h"
#include "broker/handshaker/endpoint.h"
#include "broker/support/exclusive_wakeup.h"
#include "broker/support/log.h"
#include "broker/support/status.h"

namespace tlsbroker {
namespace {

// After so many connections in a row the others get their turn.
constexpr int kBurst = 64;

// Without descriptors or memory accept(2) fails at once, again and again.
constexpr std::chrono::milliseconds kExhaustedPause{100};

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

Acceptor::Acceptor(Shared& shared, Service& service, UniqueFd listener)
    : shared_(shared), service_(service), listener_(std::move(listener)) {}

asio::awaitable<void> Acceptor::Run() {
  int burst = 0;
  while (!stopped_) {
    co_await service_.queue.WaitForRoom();
    if (stopped_) co_return;
    int error = AcceptOne();
    if (error == EAGAIN) {
      error = co_await WaitForConnection();
      // At once: who woke this process has woken no other.
      if (error == 0 && !stopped_) error = AcceptOne();
    }
    if (error == 0 && ++burst % kBurst == 0) {
      co_await asio::post(shared_.io, asio::use_awaitable);
    } else if (error != 0 && error != EAGAIN && !IsPassing(error)) {
      co_await PauseAfter(shared_, error);
    }
  }
}

int Acceptor::AcceptOne() {
  sockaddr_storage peer{};
  socklen_t size = sizeof(peer);
  UniqueFd socket(accept4(listener_.get(), reinterpret_cast<sockaddr*>(&peer), &size,
                          SOCK_NONBLOCK | SOCK_CLOEXEC));
  if (!socket) return errno;
  try {
    if (IsTcp(peer)) Admit(shared_, service_, std::move(socket), peer);
    return 0;
  } catch (const std::exception&) {
    return ENOMEM;
  }
}

// Watched at no other time: while the queue is full, say, another handshaker has to be woken.
asio::awaitable<int> Acceptor::WaitForConnection() {
  try {
    const ExclusiveWakeup one_handshaker;
    watched_.emplace(shared_.io.get_executor(), std::move(listener_));
  } catch (const std::exception&) {
    co_return ENOMEM;
  }
  (void)co_await watched_->WaitReadable();
  listener_ = watched_->Release();
  watched_.reset();
  co_return 0;
}

// Who connects when all have let go is refused, instead of waiting for nobody.
void Acceptor::Stop() {
  stopped_ = true;
  listener_.Reset();
  if (!watched_) return;
  watched_->Cancel();
  const UniqueFd closed = watched_->Release();
}

}  // namespace tlsbroker
