// SPDX-License-Identifier: Apache-2.0
// Attaching to a service's queue (PROTOCOL.md section 1.1). Part of libtlsbroker; the socket is in
// a directory that only the broker writes to, and what comes from it is checked all the same.

#include "protocol/attach.h"

#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <memory>
#include <utility>

#include "client-lib/attachment.h"
#include "client-lib/confine.h"
#include "client-lib/connection.h"
#include "client-lib/guarded.h"
#include "protocol/channel.h"
#include "tlsbroker/tlsbroker.h"

namespace tlsbroker::client {
namespace {

using std::chrono::milliseconds;

// The pause between two attempts to find the broker again; it doubles each time.
constexpr milliseconds kFirstPause{50};
constexpr milliseconds kLongestPause{2'000};

// Whether a later attempt may succeed: the broker is not there, or not yet, or has no room now.
bool MayComeBack(int error) {
  return error == -ENOENT || error == -ECONNREFUSED || error == -ECONNRESET || error == -EAGAIN ||
         error == -EUSERS;
}

}  // namespace

int Attachment::Begin(tlsbroker_queue& queue) {
  events_.Reset(epoll_create1(EPOLL_CLOEXEC));
  timer_.Reset(timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK));
  if (!events_ || !timer_) return -errno;
  if (const int error = Connect(0); error < 0) return error;
  return TakeAnswer(queue, /*dont_wait=*/false);
}

int Attachment::GoOn(tlsbroker_queue& queue) {
  const std::lock_guard lock(mutex_);
  switch (state_) {
    case State::kAttached:
      if (!QueueHasEnded(queue)) return 0;  // another thread has attached it
      (void)epoll_ctl(events_.get(), EPOLL_CTL_DEL, queue.fd.get(), nullptr);
      pause_ = milliseconds(0);
      return Ask();
    case State::kPausing: {
      uint64_t times;
      if (read(timer_.get(), &times, sizeof(times)) != sizeof(times)) return -EAGAIN;
      (void)epoll_ctl(events_.get(), EPOLL_CTL_DEL, timer_.get(), nullptr);
      return Ask();
    }
    case State::kAsking:
      break;
  }
  const int result = TakeAnswer(queue, /*dont_wait=*/true);
  if (result == 0 || result == -EAGAIN) return result;
  const int paused = Pause();
  return MayComeBack(result) ? paused : result;
}

std::shared_ptr<UniqueFd> Attachment::requests(const tlsbroker_queue& queue) const {
  const std::lock_guard lock(mutex_);
  return queue.requests;
}

int Attachment::Ask() {
  const int error = Connect(SOCK_NONBLOCK);
  if (error == 0) {
    state_ = State::kAsking;
    const int watched = Watch(socket_.get());
    return watched < 0 ? watched : -EAGAIN;
  }
  const int paused = Pause();
  return MayComeBack(error) ? paused : error;
}

// connect(2) on a Unix socket waits for room in the listener's backlog, and can be interrupted
// then.
int Attachment::Connect(int flags) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path_.size() >= sizeof(address.sun_path)) return -ENAMETOOLONG;
  std::strcpy(address.sun_path, path_.c_str());
  socket_.Reset(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | flags, 0));
  if (!socket_) return -errno;
  int result = 0;
  do {
    result = connect(socket_.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address));
  } while (result != 0 && errno == EINTR);
  return result == 0 ? 0 : -errno;
}

int Attachment::TakeAnswer(tlsbroker_queue& queue, bool dont_wait) {
  UniqueFd fd, requests;
  if (const int error = Receive(socket_.get(), dont_wait, fd, requests); error < 0) return error;
  if (!queue.fd) {
    queue.fd = std::move(fd);
  } else if (dup3(fd.get(), queue.fd.get(), O_CLOEXEC) < 0) {
    return -errno;
  }
  queue.requests = std::make_shared<UniqueFd>(std::move(requests));
  // The socket stays open but is not watched: the queue's end says that the broker is gone.
  (void)epoll_ctl(events_.get(), EPOLL_CTL_DEL, socket_.get(), nullptr);
  state_ = State::kAttached;
  return Watch(queue.fd.get());
}

int Attachment::Receive(int socket, bool dont_wait, UniqueFd& queue, UniqueFd& requests) {
  channel::Message message;
  switch (channel::Receive(socket, attach::kSize, 2, message, dont_wait)) {
    case channel::Result::kOk:
      break;
    case channel::Result::kClosed:
      return -ECONNRESET;
    case channel::Result::kWouldBlock:
      return -EAGAIN;
    case channel::Result::kMalformed:
      return TLSBROKER_E_HANDOFF;
    case channel::Result::kError:
      return -errno;
  }
  const auto answer = attach::Decode(message.bytes);
  if (!answer) return TLSBROKER_E_HANDOFF;
  if (*answer == attach::Answer::kNotAllowed) return -EACCES;
  if (*answer == attach::Answer::kTooMany) return -EUSERS;
  if (message.fds.size() != 2) return TLSBROKER_E_HANDOFF;
  queue = std::move(message.fds[0]);
  requests = std::move(message.fds[1]);
  return 0;
}

// Returns -EAGAIN, or the error of the timer that was to end the pause.
int Attachment::Pause() {
  socket_.Reset();
  pause_ = std::clamp(pause_ * 2, kFirstPause, kLongestPause);
  itimerspec time{};
  time.it_value.tv_sec = pause_.count() / 1000;
  time.it_value.tv_nsec = pause_.count() % 1000 * 1'000'000;
  if (timerfd_settime(timer_.get(), 0, &time, nullptr) < 0) return -errno;
  state_ = State::kPausing;
  const int watched = Watch(timer_.get());
  return watched < 0 ? watched : -EAGAIN;
}

int Attachment::Watch(int fd) {
  epoll_event event{};
  event.events = EPOLLIN;
  return epoll_ctl(events_.get(), EPOLL_CTL_ADD, fd, &event) < 0 ? -errno : 0;
}

bool Attachment::QueueHasEnded(const tlsbroker_queue& queue) const {
  char byte;
  return recv(queue.fd.get(), &byte, sizeof(byte), MSG_PEEK | MSG_DONTWAIT) == 0;
}

}  // namespace tlsbroker::client

int tlsbroker_attach(const char* path, tlsbroker_queue** queue) {
  using namespace tlsbroker::client;
  return Guarded([&] {
    // This comes before the first descriptor whose keys the kernel has.
    if (const int error = GiveUpKeys(); error < 0) return error;
    auto made = std::make_unique<tlsbroker_queue>();
    made->attachment = std::make_unique<Attachment>(path);
    if (const int error = made->attachment->Begin(*made); error < 0) return error;
    *queue = made.release();
    return 0;
  });
}
