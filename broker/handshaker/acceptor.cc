// SPDX-License-Identifier: Apache-2.0
#include "broker/handshaker/acceptor.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

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

// After this many connections in a row other work gets its turn. co_spawn() begins a handshake
// while its connection is accepted, and computes the whole first flight then if the ClientHello is
// already there.
constexpr int kBurst = 8;

// Without descriptors or memory accept(2) fails at once, again and again.
constexpr std::chrono::milliseconds kExhaustedPause{100};

// Errors that accept(2) may return for a connection that was fine a moment ago (accept(2), "Error
// handling"): the next connection is tried.
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

// All generations of handshakers use the same listening socket, so an earlier one may have left
// other flags and options on it. Without O_NONBLOCK this process would wait in accept(2); with
// TCP_CORK, which accepted sockets inherit, each answer would wait 200 ms, and with a
// TCP_USER_TIMEOUT of a millisecond each connection would end.
void MakeReady(int listener) {
  const int off = 0;
  setsockopt(listener, IPPROTO_TCP, TCP_CORK, &off, sizeof(off));
  setsockopt(listener, IPPROTO_TCP, TCP_USER_TIMEOUT, &off, sizeof(off));
  setsockopt(listener, SOL_SOCKET, SO_KEEPALIVE, &off, sizeof(off));
  (void)fcntl(listener, F_SETFL, fcntl(listener, F_GETFL) | O_NONBLOCK);
}

// Pauses, since the listener stays readable as long as descriptors or memory are missing. EINVAL
// means that the socket does not listen any more, which the supervisor has to mend.
asio::awaitable<void> PauseAfter(const Shared& shared, int error) {
  if (error != EINVAL) log::Warning(absl::StrCat("accept: ", std::strerror(error), "; pausing"));
  asio::steady_timer pause(shared.io, kExhaustedPause);
  co_await pause.async_wait(asio::use_awaitable);
}

}  // namespace

Acceptor::Acceptor(Shared& shared, Listener listener, UniqueFd socket)
    : shared_(shared), listener_(listener), socket_(std::move(socket)) {
  MakeReady(socket_.get());
}

asio::awaitable<void> Acceptor::Run() {
  int burst = 0;
  while (!stopped_) {
    co_await listener_.service.queue.WaitForRoom();
    if (stopped_) co_return;
    int error = AcceptOne();
    if (error == EAGAIN) {
      error = co_await WaitForConnection();
      // Without a suspension in between: the connection that woke this process has woken no other.
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
  UniqueFd socket(accept4(socket_.get(), reinterpret_cast<sockaddr*>(&peer), &size,
                          SOCK_NONBLOCK | SOCK_CLOEXEC));
  if (!socket) return errno;
  try {
    if (IsTcp(peer)) StartConnection(shared_, listener_, std::move(socket), ToEndpoint(peer));
    return 0;
  } catch (const std::exception&) {
    return ENOMEM;
  }
}

// The listener is watched at no other time: while this process waits for room in the queue, for
// example, a new connection has to wake another handshaker.
asio::awaitable<int> Acceptor::WaitForConnection() {
  try {
    const ExclusiveWakeup one_handshaker;
    watched_.emplace(shared_.io.get_executor(), std::move(socket_));
  } catch (const std::exception&) {
    co_return ENOMEM;
  }
  (void)co_await watched_->WaitReadable();
  socket_ = watched_->Release();
  watched_.reset();
  co_return 0;
}

// Once all processes have closed the listener, a client that connects is refused instead of waiting
// for nobody.
void Acceptor::Stop() {
  stopped_ = true;
  socket_.Reset();
  if (!watched_) return;
  watched_->Cancel();
  const UniqueFd closed = watched_->Release();
}

}  // namespace tlsbroker
