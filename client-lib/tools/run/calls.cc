// The daemon's side of the runner: its trapped calls, and the knocks at its listener. What the
// arguments of a call point to was written by the daemon.

#include <fcntl.h>
#include <netinet/in.h>
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

// On their way to one daemon; the others stay in the queue, where another one may take them.
constexpr size_t kMaxKnocks = 16;
constexpr std::chrono::milliseconds kKnockPause{50};

int Option(int socket, int option) {
  int value = -1;
  socklen_t size = sizeof(value);
  return getsockopt(socket, SOL_SOCKET, option, &value, &size) == 0 ? value : -1;
}

bool IsTcp(int fd) { return Option(fd, SO_PROTOCOL) == IPPROTO_TCP; }

bool IsReadable(int fd) {
  pollfd entry{fd, POLLIN, 0};
  return poll(&entry, 1, 0) == 1;
}

int FlagsOf(const TrappedCall& call) {
  return call.number == SCMP_SYS(accept4) ? static_cast<int>(call.arguments[3]) : 0;
}

// Into the arguments 1 and 2 of accept(2) and getpeername(2). 0 or an errno.
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
      log::Error("connecting to the daemon" + log::Field("address", to.ToString()) +
                 log::Field("why", strerror(errno)));
    }
    retry_at_ = Clock::now() + kKnockPause;
    return false;
  }
  const std::string address = Address::LocalOf(end.get()).ToString();
  knocks_by_address_[address] = id;
  knocks_.emplace(id, Knock{std::move(connection), std::move(end), address});
  return true;
}

// Refused, or reset by a listener that was closed.
void Runner::KnockEvent(uint64_t id) {
  const auto knock = knocks_.find(id);
  if (knock == knocks_.end()) return;
  if (Option(knock->second.end.get(), SO_ERROR) == ECONNREFUSED) ForgetListener();
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
  knocks_by_address_.erase(taken.address);
  knocks_.erase(knock);
  return taken;
}

void Runner::ForgetListener() {
  if (!listener_) return;
  log::Notice("the daemon listens no more" + log::Field("address", listener_->ToString()));
  listener_.reset();
  listeners_.clear();
}

// ---- Calls ----

void Runner::TakeCall() {
  TrappedCall call;
  if (!traps_->Receive(call)) return;
  UniqueFd socket = processes_.Take(call.thread, call.descriptor());
  if (!socket) return Refuse(call, errno);
  switch (call.number) {
    case SCMP_SYS(listen):
      return OnListen(call, std::move(socket));
    case SCMP_SYS(getpeername):
      return OnGetpeername(call, socket.get());
    default:
      return OnAccept(call, std::move(socket));
  }
}

// To go on would show the daemon our own addresses for its clients'.
void Runner::Refuse(const TrappedCall& call, int error) {
  if (error == EBADF) return traps_->Continue(call);
  if (traps_->IsWaiting(call) && !std::exchange(refusal_logged_, true)) {
    log::Error(
        "the daemon's sockets are out of reach; if it changes its user, start this command with "
        "CAP_SYS_PTRACE, or the daemon with its final user" +
        log::Field("pid", std::to_string(call.thread)) + log::Field("why", strerror(error)));
  }
  traps_->Fail(call, EPERM);
}

bool Runner::IsWanted(const Address& local) const {
  if (listener_) return local == *listener_;
  if (options_.listen) return local == *options_.listen;
  return options_.port == 0 || options_.port == local.port();
}

// Made here, so that the listener listens when the first knock comes. Like a listener that accepts,
// the socket is closed before the call is answered: the daemon may want its port for another.
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
    if (!listener_) log::Notice("serving the daemon" + log::Field("address", local.ToString()));
    listener_ = local;
    listeners_.insert(CookieOf(socket.get()));
    max_knocks_ = std::clamp<size_t>(static_cast<size_t>(std::max(backlog, 1)), 1, kMaxKnocks);
  }
  socket.Reset();
  traps_->Return(call, 0);
}

void Runner::OnGetpeername(const TrappedCall& call, int socket) {
  const Address* peer = peers_.Find(CookieOf(socket));
  const bool connected = Address::PeerOf(socket).family() != AF_UNSPEC;
  if (peer == nullptr || !connected || call.arguments[1] == 0 || !traps_->IsWaiting(call)) {
    return traps_->Continue(call);
  }
  const int error = WriteAddress(call, *peer, Option(socket, SO_DOMAIN));
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
// time, so what poll(2) shows is there. The listener is closed before the call is answered.
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
    const auto address = knocks_by_address_.find(Address::PeerOf(accepted.get()).ToString());
    if (address == knocks_by_address_.end()) {
      Stranger(std::move(accepted));
      continue;
    }
    const int family = Option(listener.get(), SO_DOMAIN);
    listener.Reset();
    Deliver(call, family, knocks_.find(address->second), std::move(accepted));
    return true;
  }
  return false;
}

// `family` is the listener's.
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
  // getpeername(2) tells no other address than this, from the daemon's first call on.
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
  log::Info("handed over" + log::Field("conn", IdText(taken.connection.get())));
  taken.connection.Forget();
  peers_.Retire(cookie);
}

// Somebody has connected to the daemon's port, in plaintext.
void Runner::Stranger(UniqueFd accepted) {
  // The 1st, 2nd, 4th, 8th...: a stranger decides how many there are.
  if (std::has_single_bit(++strangers_)) {
    log::Warning("closed a connection that did not come through the broker" +
                 log::Field("peer", Address::PeerOf(accepted.get()).ToString()) +
                 log::Field("count", std::to_string(strangers_)));
  }
  ResetTcp(accepted);
}

// An epoll instance watches the listener without keeping it open: a daemon that a signal has called
// away from accept(2) closes it, and may want its port again at once.
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

// False when it is still to be held.
bool Runner::AnswerHeld(const TrappedCall& call, uint64_t cookie) {
  UniqueFd listener = processes_.Take(call.thread, call.descriptor());
  const int error = errno;
  if (!traps_->IsWaiting(call)) return true;  // and what was taken may be anything
  if (listener && CookieOf(listener.get()) == cookie) return Answer(call, listener);
  // Another thread of the daemon has closed it, or has put something else there.
  listener ? OnAccept(call, std::move(listener)) : Refuse(call, error);
  return true;
}

// A call that a signal has interrupted says nothing.
void Runner::SweepHeld() {
  for (auto held = held_.begin(); held != held_.end();) {
    std::deque<TrappedCall>& calls = held->second.calls;
    std::erase_if(calls, [this](const TrappedCall& call) { return !traps_->IsWaiting(call); });
    held = calls.empty() ? held_.erase(held) : std::next(held);
  }
  sweep_at_ = Clock::now() + kSweepPeriod;
}

}  // namespace tlsbroker::tools
