// SPDX-License-Identifier: Apache-2.0
// The daemon's side of the runner: the daemon's trapped calls, and the knocks at its listener. The
// daemon wrote what the arguments of a call point to.

#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <seccomp.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <iterator>
#include <utility>

#include "broker/support/log.h"
#include "client-lib/tools/exec/environment.h"
#include "client-lib/tools/run/runner.h"
#include "client-lib/tools/run/token.h"

namespace tlsbroker::tools {
namespace {

// The most connections that are on their way to one daemon; the others stay in the queue, where
// another daemon's runner may take them.
constexpr size_t kMaxKnocks = 16;
constexpr std::chrono::milliseconds kKnockPause{50};

// How many other ports of the daemon are logged.
constexpr size_t kMaxOtherPorts = 8;

// The most connections of the daemon to itself that wait to be accepted.
constexpr size_t kMaxOwn = 32;  // half of kSpareDescriptors

int SocketOption(int socket, int option) {
  int value = -1;
  socklen_t size = sizeof(value);
  return getsockopt(socket, SOL_SOCKET, option, &value, &size) == 0 ? value : -1;
}

bool IsTcp(int fd) { return SocketOption(fd, SO_PROTOCOL) == IPPROTO_TCP; }

// connect(2) has not been called, or has failed.
bool IsUnconnected(int socket) {
  tcp_info info{};
  socklen_t size = sizeof(info);
  return getsockopt(socket, IPPROTO_TCP, TCP_INFO, &info, &size) == 0 &&
         info.tcpi_state == TCP_CLOSE;
}

// A connection by both of its ends, the connecting one first.
std::string Ends(const Address& from, const Address& to) {
  return from.Unmapped().ToString() + " " + to.Unmapped().ToString();
}

bool IsReadable(int fd) {
  pollfd entry{fd, POLLIN, 0};
  return poll(&entry, 1, 0) == 1;
}

int FlagsOf(const TrappedCall& call) {
  return call.number == SCMP_SYS(accept4) ? static_cast<int>(call.arguments[3]) : 0;
}

// Writes the address where the arguments 1 and 2 of accept(2) and getpeername(2) point to. 0 or an
// errno.
int WriteAddress(const TrappedCall& call, const Address& address, int family) {
  const uint64_t to = call.arguments[1];
  const uint64_t size_at = call.arguments[2];
  if (to == 0) return 0;
  socklen_t room = 0;
  if (const int error = ReadMemory(call.thread, size_at, &room, sizeof(room)); error != 0) {
    return error;
  }
  if (static_cast<int>(room) < 0) return EINVAL;
  const Address shown = address.For(family, room);
  const socklen_t size = shown.size();
  if (const int error = WriteMemory(call.thread, to, shown.get(), std::min(room, size));
      error != 0) {
    return error;
  }
  return WriteMemory(call.thread, size_at, &size, sizeof(size));
}

// The address that the arguments 1 and 2 of connect(2) point to; of no family if it is no Internet
// address.
Address TargetOf(const TrappedCall& call) {
  sockaddr_in6 storage{};
  auto* address = reinterpret_cast<sockaddr*>(&storage);
  const auto size = static_cast<uint32_t>(call.arguments[2]);
  const bool known = (size == sizeof(sockaddr_in) || size == sizeof(sockaddr_in6)) &&
                     ReadMemory(call.thread, call.arguments[1], &storage, size) == 0 &&
                     (address->sa_family == AF_INET ||
                      (address->sa_family == AF_INET6 && size == sizeof(sockaddr_in6)));
  return known ? Address(address) : Address();
}

}  // namespace

// ---- Knocks ----

void Runner::KnockForWaiting() {
  while (listener_ && !waiting_.empty() && Clock::now() >= retry_at_) {
    Connection connection = std::move(waiting_.front());
    waiting_.pop_front();
    if (!KnockFor(connection)) waiting_.push_front(std::move(connection));
  }
}

bool Runner::KnockFor(Connection& connection) {
  const Address to = listener_->ToConnect();
  UniqueFd end(socket(to.family(), SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  const uint64_t id = next_id_++;
  if (!end || (connect(end.get(), to.get(), to.size()) != 0 && errno != EINPROGRESS) ||
      !Watch(end.get(), EPOLLRDHUP | EPOLLET, TokenOf(kKnock, id))) {
    if (errno == ECONNREFUSED) {
      ForgetListener();
    } else {
      log::Error("connecting to the daemon" + service_ + log::Field("address", to.ToString()) +
                 log::Field("why", strerror(errno)));
    }
    retry_at_ = Clock::now() + kKnockPause;
    return false;
  }
  const std::string ends = Ends(Address::LocalOf(end.get()), to);
  knocks_by_ends_[ends] = id;
  knocks_.emplace(id, Knock{std::move(connection), std::move(end), ends});
  return true;
}

// The knock was refused, or was reset because the listener was closed.
void Runner::KnockEvent(uint64_t id) {
  const auto knock = knocks_.find(id);
  if (knock == knocks_.end()) return;
  if (SocketOption(knock->second.end.get(), SO_ERROR) == ECONNREFUSED) ForgetListener();
  KnockAgain(knock);
}

void Runner::KnockAgain(Knocks::iterator knock) {
  ResetTcp(knock->second.end);
  waiting_.push_front(TakeKnock(knock).connection);
  retry_at_ = Clock::now() + kKnockPause;
}

Runner::Knock Runner::TakeKnock(Knocks::iterator knock) {
  Knock taken = std::move(knock->second);
  if (taken.end) epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, taken.end.get(), nullptr);
  knocks_by_ends_.erase(taken.ends);
  knocks_.erase(knock);
  return taken;
}

void Runner::ForgetListener() {
  if (!listener_) return;
  log::Notice("the daemon no longer listens" + service_ +
              log::Field("address", listener_->ToString()));
  listener_.reset();
  listeners_.clear();
  own_.clear();
}

// ---- Calls ----

void Runner::TakeCall() {
  TrappedCall call;
  if (!traps_->Receive(call)) return;
  UniqueFd socket = processes_.Take(call.thread, call.descriptor());
  if (!socket && call.number == SCMP_SYS(connect)) return traps_->Continue(call);
  if (!socket) return Refuse(call, errno);
  switch (call.number) {
    case SCMP_SYS(connect):
      return OnConnect(call, std::move(socket));
    case SCMP_SYS(listen):
      return OnListen(call, std::move(socket));
    case SCMP_SYS(getpeername):
      return OnGetpeername(call, socket.get());
    default:
      return OnAccept(call, std::move(socket));
  }
}

// If the kernel made the call, the daemon would take our own address for that of its client.
void Runner::Refuse(const TrappedCall& call, int error) {
  if (error == EBADF) return traps_->Continue(call);
  if (traps_->IsWaiting(call) && !std::exchange(refusal_logged_, true)) {
    log::Error(
        "the daemon's sockets are out of reach; if it changes its user, start this command with "
        "CAP_SYS_PTRACE, or the daemon with its final user" +
        service_ + log::Field("pid", std::to_string(call.thread)) +
        log::Field("why", strerror(error)));
  }
  traps_->Fail(call, EPERM);
}

bool Runner::IsWanted(const Address& local) const {
  if (listener_) return local == *listener_;
  if (options_.listen) return local == *options_.listen;
  return options_.port == 0 || options_.port == local.port();
}

// The runner makes the call itself, so that the listener listens when the first knock comes. As
// with accept(2), our copy of the socket is closed before the call is answered: the daemon may want
// the port for another socket.
void Runner::OnListen(const TrappedCall& call, UniqueFd socket) {
  if (!IsTcp(socket.get())) return traps_->Continue(call);
  const int backlog = static_cast<int>(call.arguments[1]);
  if (listen(socket.get(), backlog) != 0) {
    const int error = errno;
    socket.Reset();
    return traps_->Fail(call, error);
  }
  const Address local = Address::LocalOf(socket.get());
  if (IsWanted(local)) {
    if (!listener_)
      log::Notice("serving the daemon" + service_ + log::Field("address", local.ToString()));
    listener_ = local;
    listeners_.insert(CookieOf(socket.get()));
    max_knocks_ = std::clamp<size_t>(static_cast<size_t>(std::max(backlog, 1)), 1, kMaxKnocks);
  } else {
    OtherListener(local);
  }
  socket.Reset();
  traps_->Return(call, 0);
}

// Which one the clients reach was decided by the order of the daemon's calls alone.
void Runner::OtherListener(const Address& local) {
  if (options_.port != 0 || options_.listen || !listener_ || local.port() == listener_->port())
    return;
  if (other_ports_.size() >= kMaxOtherPorts || !other_ports_.insert(local.port()).second) return;
  log::Warning(
      "the daemon listens on several ports, and clients get the first one; if that is wrong, name "
      "another by 'port' in the configuration, or --port" +
      service_ + log::Field("address", listener_->ToString()) +
      log::Field("other", local.ToString()));
}

bool Runner::IsItself(const Address& to) const {
  return listener_ && to.port() == listener_->port() &&
         (to == *listener_ || to.Unmapped().IsLoopback() || to.IsWildcard());
}

// The runner makes the call itself if the daemon connects to the listener that stands for the
// service. Only the daemon's processes have their calls trapped, so nobody else can get here. The
// call must not wait, so the socket does not block meanwhile; if there is no answer yet, the kernel
// waits for it when it makes the call.
void Runner::OnConnect(const TrappedCall& call, UniqueFd socket) {
  const Address to = TargetOf(call);
  if (!IsTcp(socket.get()) || !IsItself(to) || !traps_->IsWaiting(call)) {
    socket.Reset();
    return traps_->Continue(call);
  }
  // A program may ask again how its connect(2) has ended.
  if (!IsUnconnected(socket.get())) {
    socket.Reset();
    return traps_->Continue(call);
  }
  const int flags = fcntl(socket.get(), F_GETFL);
  const bool waits = (flags & O_NONBLOCK) == 0;
  if (waits) (void)fcntl(socket.get(), F_SETFL, flags | O_NONBLOCK);
  const int error = connect(socket.get(), to.get(), to.size()) == 0 ? 0 : errno;
  if (waits) (void)fcntl(socket.get(), F_SETFL, flags);
  if (error == 0 || error == EINPROGRESS) {
    std::string ends = Ends(Address::LocalOf(socket.get()), to.ToConnect());
    if (own_.size() >= kMaxOwn) own_.pop_front();
    own_.emplace_back(std::move(ends), std::move(socket));
  } else {
    socket.Reset();
  }
  if (error == EINPROGRESS && waits) return traps_->Continue(call);
  error == 0 ? traps_->Return(call, 0) : traps_->Fail(call, error);
}

void Runner::OnGetpeername(const TrappedCall& call, int socket) {
  const Address* peer = peers_.Find(CookieOf(socket));
  const bool connected = Address::PeerOf(socket).family() != AF_UNSPEC;
  if (peer == nullptr || !connected || call.arguments[1] == 0 || !traps_->IsWaiting(call)) {
    return traps_->Continue(call);
  }
  const int error = WriteAddress(call, *peer, SocketOption(socket, SO_DOMAIN));
  error == 0 ? traps_->Return(call, 0) : traps_->Fail(call, error);
}

void Runner::OnAccept(const TrappedCall& call, UniqueFd listener) {
  const bool ours = listeners_.contains(CookieOf(listener.get()));
  if (!ours || (FlagsOf(call) & ~(SOCK_NONBLOCK | SOCK_CLOEXEC)) != 0) {
    listener.Reset();
    return traps_->Continue(call);
  }
  const bool waits = (fcntl(listener.get(), F_GETFL) & O_NONBLOCK) == 0;
  if (Answer(call, listener)) return;
  if (waits) return Hold(call, listener.get());
  listener.Reset();
  traps_->Fail(call, EAGAIN);
}

// False when there is nothing to be accepted. All accepts of the listener are made here, one at a
// time, so nobody else takes what poll(2) has shown. The listener is closed before the call is
// answered.
bool Runner::Answer(const TrappedCall& call, UniqueFd& listener) {
  while (IsReadable(listener.get())) {
    UniqueFd accepted(accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
    const int error = accepted ? 0 : errno;
    if (error == EMFILE || error == ENFILE || error == ENOMEM || error == EINVAL) {
      listener.Reset();
      traps_->Fail(call, error);
      return true;
    }
    if (!accepted) continue;
    const Address peer = Address::PeerOf(accepted.get());
    const std::string ends = Ends(peer, Address::LocalOf(accepted.get()));
    const auto id = knocks_by_ends_.find(ends);
    const int family = SocketOption(listener.get(), SO_DOMAIN);
    const auto own = std::ranges::find(own_, ends, &std::pair<std::string, UniqueFd>::first);
    if (own != own_.end()) {
      own_.erase(own);
      listener.Reset();
      DeliverOwn(call, family, peer, std::move(accepted));
      return true;
    }
    if (id == knocks_by_ends_.end()) {
      Stranger(std::move(accepted));
      continue;
    }
    listener.Reset();
    Deliver(call, family, knocks_.find(id->second), std::move(accepted));
    return true;
  }
  return false;
}

// `family` is that of the listener.
void Runner::Deliver(const TrappedCall& call, int family, Knocks::iterator knock,
                     UniqueFd accepted) {
  Connection& connection = knock->second.connection;
  const bool direct = options_.direct && connection.mode() == TLSBROKER_DIRECT;
  const int socket = direct ? connection.fd() : accepted.get();
  const Address peer(tlsbroker_conn_peer(connection.get()));
  const int flags = FlagsOf(call);
  const int nonblocking = (flags & SOCK_NONBLOCK) != 0 ? O_NONBLOCK : 0;
  int error = traps_->IsWaiting(call) ? 0 : ENOENT;
  if (error == 0) error = WriteAddress(call, peer, family);
  if (error == 0 && fcntl(socket, F_SETFL, nonblocking) != 0) error = errno;
  // The peer is known here before the daemon gets the socket, so that getpeername(2) never tells
  // another address.
  const uint64_t cookie = CookieOf(socket);
  if (error == 0) peers_.Add(cookie, peer);
  if (error == 0) {
    error = -traps_->ReturnDescriptor(call, socket, (flags & SOCK_CLOEXEC) != 0);
  }
  if (error != 0) {
    if (error != ENOENT) traps_->Fail(call, error);
    peers_.Retire(cookie);
    ResetTcp(accepted);
    return KnockAgain(knock);
  }
  Knock taken = TakeKnock(knock);
  if (!direct) return Serve(std::move(taken.connection), std::move(taken.end), cookie);
  log::Info("handed over" + log::Field("conn", IdText(taken.connection.get())) + service_);
  taken.connection.Forget();
  peers_.Retire(cookie);
}

// A connection of the daemon to itself, as the kernel would give it.
void Runner::DeliverOwn(const TrappedCall& call, int family, const Address& peer,
                        UniqueFd accepted) {
  const int flags = FlagsOf(call);
  int error = traps_->IsWaiting(call) ? WriteAddress(call, peer, family) : ENOENT;
  if (error == 0 && (flags & SOCK_NONBLOCK) != 0 &&
      fcntl(accepted.get(), F_SETFL, O_NONBLOCK) != 0) {
    error = errno;
  }
  if (error == 0)
    error = -traps_->ReturnDescriptor(call, accepted.get(), (flags & SOCK_CLOEXEC) != 0);
  if (error != 0 && error != ENOENT) traps_->Fail(call, error);
}

// Closes a connection that somebody made to the daemon's port, in plaintext.
void Runner::Stranger(UniqueFd accepted) {
  // Only the 1st, 2nd, 4th, 8th... is logged: a stranger decides how many there are.
  if (std::has_single_bit(++strangers_)) {
    log::Warning("closed a connection that did not come through the broker" +
                 log::Field("peer", Address::PeerOf(accepted.get()).ToString()) +
                 log::Field("count", std::to_string(strangers_)) + service_);
  }
  ResetTcp(accepted);
}

// An epoll instance watches the listener without keeping it open: when a signal interrupts the
// daemon's accept(2) the daemon may close the listener, and want its port again at once.
void Runner::Hold(const TrappedCall& call, int listener) {
  const uint64_t cookie = CookieOf(listener);
  if (held_.empty()) sweep_at_ = Clock::now() + kSweepPeriod;
  Held& held = held_[cookie];
  if (!held.watch) {
    held.watch.Reset(epoll_create1(EPOLL_CLOEXEC));
    epoll_event event{};
    event.events = EPOLLIN;
    if (!held.watch || epoll_ctl(held.watch.get(), EPOLL_CTL_ADD, listener, &event) != 0 ||
        !Watch(held.watch.get(), EPOLLIN, TokenOf(kHeld, cookie))) {
      traps_->Fail(call, errno);
      held_.erase(cookie);
      return;
    }
  }
  held.calls.push_back(call);
}

void Runner::AnswerHeld(uint64_t cookie) {
  const auto held = held_.find(cookie);
  if (held == held_.end()) return;
  std::deque<TrappedCall>& calls = held->second.calls;
  while (!calls.empty() && AnswerHeld(calls.front(), cookie)) calls.pop_front();
  if (calls.empty()) held_.erase(held);
}

// False when the call has to be held further.
bool Runner::AnswerHeld(const TrappedCall& call, uint64_t cookie) {
  UniqueFd listener = processes_.Take(call.thread, call.descriptor());
  const int error = errno;
  if (!traps_->IsWaiting(call)) return true;  // the descriptor may be anything then
  if (listener && CookieOf(listener.get()) == cookie) return Answer(call, listener);
  // Another thread of the daemon has closed the listener, or has put another file in its place.
  listener ? OnAccept(call, std::move(listener)) : Refuse(call, error);
  return true;
}

// Nothing is reported when a signal interrupts a held call, so look at all of them now and then.
void Runner::SweepHeld() {
  for (auto held = held_.begin(); held != held_.end();) {
    std::deque<TrappedCall>& calls = held->second.calls;
    std::erase_if(calls, [this](const TrappedCall& call) { return !traps_->IsWaiting(call); });
    held = calls.empty() ? held_.erase(held) : std::next(held);
  }
  sweep_at_ = Clock::now() + kSweepPeriod;
}

}  // namespace tlsbroker::tools
