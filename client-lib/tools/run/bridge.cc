// SPDX-License-Identifier: Apache-2.0
#include "client-lib/tools/run/bridge.h"

#include <fcntl.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <utility>

#include "broker/support/log.h"

namespace tlsbroker::tools {
namespace {

constexpr int kTurn = 16;  // moves in each direction before other bridges have their turn

// How long the bridge waits for the client's end after the daemon's. If the daemon reads nothing
// any more: as long as tlsbroker_close(3) waits. If the daemon may still read: as long as the
// kernel keeps a closed socket (net.ipv4.tcp_fin_timeout).
constexpr std::chrono::seconds kClosedTime{2};
constexpr std::chrono::seconds kHalfClosedTime{60};

// How often a bridge that is to be cut looks whether the daemon's kernel has everything, of which
// no event tells; and how long the daemon may take nothing, if the client was cut off itself or the
// daemon goes on writing.
constexpr std::chrono::milliseconds kLookPause{50};
constexpr std::chrono::seconds kUndeliveredTime{60};

// What the client sent got an alert.
bool IsRefusal(ssize_t result) {
  return result == TLSBROKER_E_PROTOCOL || result == TLSBROKER_E_REKEY;
}

std::string ErrorText(ssize_t result) { return strerror(static_cast<int>(-result)); }

}  // namespace

void ResetTcp(UniqueFd& socket) {
  if (!socket) return;
  const linger at_once{.l_onoff = 1, .l_linger = 0};
  setsockopt(socket.get(), SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once));
  socket.Reset();
}

Bridge::Bridge(Connection connection, UniqueFd daemon)
    : connection_(std::move(connection)), daemon_(std::move(daemon)) {}

bool Bridge::Open() {
  const int on = 1;
  // No delay is needed to collect small pieces: the client has already chosen the pieces.
  setsockopt(daemon_.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
  return connection_.SetNonblocking(true) == 0 && in_.Open(O_NONBLOCK) == 0 &&
         out_.Open(O_NONBLOCK) == 0;
}

Bridge::Progress Bridge::Move() {
  if (lingers_) return Linger();
  if (!client_told_) deadline_.reset();
  bool moved = false;
  bool more = true;
  for (int i = 0; i < kTurn && more && !over(); ++i) {
    more = MoveOnce();
    moved = moved || more;
  }
  if (!over()) KeepTime(moved);
  if (over()) return lingers_ ? Linger() : Progress::kOver;
  return more ? Progress::kMore : Progress::kWaiting;
}

// The client has got an alert and a FIN. If we closed before the client does, the records that the
// kernel does not read any more would make it send a reset, which may overtake the alert.
Bridge::Progress Bridge::Linger() {
  pollfd client{connection_.fd(), POLLRDHUP, 0};
  if (poll(&client, 1, 0) == 0 && Clock::now() < *deadline_) return Progress::kWaiting;
  connection_.Abort();
  return Progress::kOver;
}

bool Bridge::MoveOnce() {
  bool moved = FromClient();
  moved = ToDaemon() || moved;
  moved = FromDaemon() || moved;
  return ToClient() || moved;
}

bool Bridge::FromClient() {
  if (over()) return false;
  if (incoming_ == Incoming::kDiscarded) return Discard();
  if (incoming_ != Incoming::kOpen) return false;
  const ssize_t n = connection_.SpliceRead(in_.write_end.get(), kPiece);
  if (n > 0) {
    bytes_in_ += static_cast<uint64_t>(n);
    return true;
  }
  client_silent_ = n == -EAGAIN;
  if (n == -EAGAIN) return false;
  in_.write_end.Reset();
  if (n == 0) {
    incoming_ = Incoming::kEnding;
    return true;
  }
  incoming_ = Incoming::kCutOff;
  refused_ = IsRefusal(n);
  if (cut_off_.empty()) {
    cut_off_ = "client: " + std::string(ResultText(n));
    undelivered_since_ = Clock::now();
  }
  return true;
}

bool Bridge::Discard() {
  std::array<char, 16 * 1024> nowhere;
  const ssize_t n = connection_.Read(nowhere.data(), nowhere.size());
  if (n == -EAGAIN) return false;
  if (n == 0) incoming_ = Incoming::kEnded;
  if (n < 0) {
    refused_ = IsRefusal(n);
    Cut("client: " + std::string(ResultText(n)));
  }
  return n > 0;
}

bool Bridge::ToDaemon() {
  if (over() || incoming_ == Incoming::kEnded || incoming_ == Incoming::kDiscarded) return false;
  const ssize_t n = Splice(in_.read_end, daemon_);
  if (n > 0) return true;
  if (n == -EAGAIN) return false;
  if (n == 0 && incoming_ == Incoming::kCutOff) return false;
  if (n == 0) {
    shutdown(daemon_.get(), SHUT_WR);
    incoming_ = Incoming::kEnded;
    return true;
  }
  // A reset by the daemon is EPIPE if the daemon had ended its direction, else ECONNRESET
  // (tcp_reset() in Linux).
  if (n == -EPIPE) {
    incoming_ = incoming_ == Incoming::kEnding ? Incoming::kEnded : Incoming::kDiscarded;
    return true;
  }
  Cut("daemon: " + ErrorText(n));
  return false;
}

bool Bridge::FromDaemon() {
  if (over() || daemon_ended_) return false;
  if (!cut_off_.empty()) return DiscardOutput();
  const ssize_t n = Splice(daemon_, out_.write_end);
  if (n > 0) {
    bytes_out_ += static_cast<uint64_t>(n);
    return true;
  }
  if (n == -EAGAIN) return false;
  if (n == 0 || n == -EPIPE) {
    daemon_ended_ = true;
    out_.write_end.Reset();
    return true;
  }
  ToClient();  // what the daemon has sent before
  Cut("daemon: " + ErrorText(n));
  return false;
}

// The daemon must not wait for room while it is to read.
bool Bridge::DiscardOutput() {
  std::array<char, 16 * 1024> nowhere;
  const ssize_t n = recv(daemon_.get(), nowhere.data(), nowhere.size(), MSG_DONTWAIT);
  writes_in_vain_ = writes_in_vain_ || n > 0;
  if (n > 0 || (n < 0 && (errno == EAGAIN || errno == EINTR))) return n > 0;
  daemon_ended_ = true;
  if (n < 0) Cut(cut_off_);
  return n == 0;
}

bool Bridge::ToClient() {
  if (over() || client_told_ || !cut_off_.empty()) return false;
  const ssize_t n = connection_.SpliceWrite(out_.read_end.get(), kPiece);
  if (n > 0) return true;
  if (n == 0) return EndToClient();
  if (n == -EAGAIN) return false;
  ClientTakesNoMore(std::string(ResultText(n)));
  return true;  // the client may have said something before, which is read now
}

// After a reset what the client has said before is still to be read: many clients end and close
// without having read all, and then their kernel sends a reset. The daemon gets it, and the end if
// there is one, and only then learns that nobody reads what it writes.
void Bridge::ClientTakesNoMore(const std::string& why) {
  cut_off_ = "client: " + why;
  undelivered_since_ = Clock::now();
  client_silent_ = false;
}

// The client takes nothing, and has nothing more to say. After a reset there is always an end or an
// error to be read, so this is another failure.
bool Bridge::IsSilent() const {
  int waiting = 0;
  return incoming_ == Incoming::kOpen && client_silent_ &&
         ioctl(in_.read_end.get(), FIONREAD, &waiting) == 0 && waiting == 0;
}

// Data that the daemon's kernel has acknowledged stays readable when the connection is reset, and
// so does an end (tcp_reset() in Linux). What is on its way would be lost.
void Bridge::CutOnceDelivered() {
  if (IsSilent() || incoming_ == Incoming::kDiscarded) return Cut(cut_off_);
  int in_pipe = 0, unacknowledged = 0;
  if (ioctl(in_.read_end.get(), FIONREAD, &in_pipe) != 0 ||
      ioctl(daemon_.get(), SIOCOUTQ, &unacknowledged) != 0) {
    return Cut(cut_off_);
  }
  const Clock::time_point now = Clock::now();
  const int undelivered = in_pipe + unacknowledged;
  if (undelivered == 0 && incoming_ != Incoming::kOpen) return Cut(cut_off_);
  if (undelivered != std::exchange(undelivered_, undelivered)) undelivered_since_ = now;
  const bool bounded = incoming_ == Incoming::kCutOff || writes_in_vain_;
  if (bounded && now >= undelivered_since_ + kUndeliveredTime) return Cut(cut_off_);
  deadline_ = now + kLookPause;
}

bool Bridge::EndToClient() {
  const int result = connection_.EndWrite();
  if (result == 0) {
    client_told_ = true;
    return true;
  }
  if (result == -ETOOMANYREFS) {  // a limit for all of this user's processes; it passes
    deadline_ = Clock::now() + std::chrono::milliseconds(100);
  } else if (result != -EAGAIN) {
    ClientTakesNoMore(std::string(ResultText(result)));
    return true;
  }
  return false;
}

void Bridge::KeepTime(bool moved) {
  if (!cut_off_.empty()) return CutOnceDelivered();
  if (!client_told_) return;
  if (incoming_ != Incoming::kEnded) {
    const bool closed = incoming_ == Incoming::kDiscarded;
    const Clock::time_point now = Clock::now();
    if (closed ? !deadline_ || *deadline_ > now + kClosedTime : moved || !deadline_) {
      deadline_ = now + (closed ? kClosedTime : kHalfClosedTime);
    }
    if (now < *deadline_) return;
  }
  connection_.Close(0);
  daemon_.Reset();
  closed_ = true;
}

void Bridge::Cut(const std::string& why) {
  if (over()) return;
  failure_ = why;
  ResetTcp(daemon_);
  lingers_ = refused_;
  if (!lingers_) return connection_.Abort();
  deadline_ = Clock::now() + kClosedTime;
}

std::string Bridge::Summary() const {
  std::string text =
      log::Field("in", std::to_string(bytes_in_)) + log::Field("out", std::to_string(bytes_out_));
  if (!failure_.empty()) text += log::Field("why", failure_);
  return text;
}

}  // namespace tlsbroker::tools
