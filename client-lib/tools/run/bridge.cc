#include "client-lib/tools/run/bridge.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <utility>

#include "broker/support/log.h"

namespace tlsbroker::tools {
namespace {

constexpr size_t kPiece = 1 << 20;  // as much as a pipe may ever hold
constexpr int kTurn = 16;           // moves in each direction before others have their turn

// After the daemon's end. As long as tlsbroker_close(3) waits for the client's when the daemon
// reads nothing any more; and as long as the kernel keeps a closed socket
// (net.ipv4.tcp_fin_timeout) when it may still read.
constexpr std::chrono::seconds kClosedTime{2};
constexpr std::chrono::seconds kHalfClosedTime{60};

ssize_t Splice(const UniqueFd& from, const UniqueFd& to) {
  ssize_t n;
  do {
    n = splice(from.get(), nullptr, to.get(), nullptr, kPiece, SPLICE_F_MOVE | SPLICE_F_NONBLOCK);
  } while (n < 0 && errno == EINTR);
  return n < 0 ? -errno : n;
}

std::string ErrorText(ssize_t result) { return strerror(static_cast<int>(-result)); }

}  // namespace

void ResetTcp(UniqueFd& socket) {
  if (!socket) return;
  const linger at_once{.l_onoff = 1, .l_linger = 0};
  setsockopt(socket.get(), SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once));
  socket.Reset();
}

bool Bridge::Pipe::Open() {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC | O_NONBLOCK) != 0) return false;
  read_end.Reset(ends[0]);
  write_end.Reset(ends[1]);
  return true;
}

Bridge::Bridge(Connection connection, UniqueFd daemon)
    : connection_(std::move(connection)), daemon_(std::move(daemon)) {}

bool Bridge::Open() {
  const int on = 1;
  // What the client sent is on its way already in pieces of its choice.
  setsockopt(daemon_.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
  return connection_.SetNonblocking(true) == 0 && in_.Open() && out_.Open();
}

Bridge::Progress Bridge::Move() {
  if (!client_told_) deadline_.reset();
  bool moved = false;
  bool more = true;
  for (int i = 0; i < kTurn && more && !over(); ++i) {
    more = MoveOnce();
    moved = moved || more;
  }
  if (!over()) KeepTime(moved);
  if (over()) return Progress::kOver;
  return more ? Progress::kMore : Progress::kWaiting;
}

bool Bridge::MoveOnce() {
  bool moved = FromClient();
  moved = ToDaemon() || moved;
  moved = FromDaemon() || moved;
  return ToClient() || moved;
}

bool Bridge::FromClient() {
  if (over() || incoming_ == Incoming::kEnding || incoming_ == Incoming::kEnded) return false;
  if (incoming_ == Incoming::kDiscarded) return Discard();
  const ssize_t n = connection_.SpliceRead(in_.write_end.get(), kPiece);
  if (n > 0) {
    bytes_in_ += static_cast<uint64_t>(n);
    return true;
  }
  if (n == -EAGAIN) return false;
  if (n == 0) {
    incoming_ = Incoming::kEnding;
    in_.write_end.Reset();
    return true;
  }
  ToDaemon();  // what it has sent before
  Cut("client: " + std::string(ResultText(n)));
  return false;
}

bool Bridge::Discard() {
  std::array<char, 16 * 1024> nowhere;
  const ssize_t n = connection_.Read(nowhere.data(), nowhere.size());
  if (n == -EAGAIN) return false;
  if (n == 0) incoming_ = Incoming::kEnded;
  if (n < 0) Cut("client: " + std::string(ResultText(n)));
  return n > 0;
}

bool Bridge::ToDaemon() {
  if (over() || incoming_ == Incoming::kEnded || incoming_ == Incoming::kDiscarded) return false;
  const ssize_t n = Splice(in_.read_end, daemon_);
  if (n > 0) return true;
  if (n == -EAGAIN) return false;
  if (n == 0) {
    shutdown(daemon_.get(), SHUT_WR);
    incoming_ = Incoming::kEnded;
    return true;
  }
  // A reset is EPIPE after the daemon's end, and ECONNRESET without one (tcp_reset() in Linux).
  if (n == -EPIPE) {
    incoming_ = incoming_ == Incoming::kEnding ? Incoming::kEnded : Incoming::kDiscarded;
    return true;
  }
  Cut("daemon: " + ErrorText(n));
  return false;
}

bool Bridge::FromDaemon() {
  if (over() || daemon_ended_) return false;
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
  ToClient();  // what it has sent before
  Cut("daemon: " + ErrorText(n));
  return false;
}

bool Bridge::ToClient() {
  if (over() || client_told_) return false;
  const ssize_t n = connection_.SpliceWrite(out_.read_end.get(), kPiece);
  if (n > 0) return true;
  if (n == 0) return EndToClient();
  if (n != -EAGAIN) {
    Cut("client: " + std::string(ResultText(n)));
  } else if (alarm_ && incoming_ == Incoming::kEnded) {
    Cut("client: it is gone");
  }
  return false;
}

bool Bridge::EndToClient() {
  const int result = connection_.EndWrite();
  if (result == 0) {
    client_told_ = true;
    return true;
  }
  if (result == -ETOOMANYREFS) {  // of all this user's processes; it passes
    deadline_ = Clock::now() + std::chrono::milliseconds(100);
  } else if (result != -EAGAIN) {
    Cut("client: " + std::string(ResultText(result)));
  }
  return false;
}

void Bridge::KeepTime(bool moved) {
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
  connection_.Abort();
}

std::string Bridge::Summary() const {
  std::string text =
      log::Field("in", std::to_string(bytes_in_)) + log::Field("out", std::to_string(bytes_out_));
  if (!failure_.empty()) text += log::Field("why", failure_);
  return text;
}

}  // namespace tlsbroker::tools
