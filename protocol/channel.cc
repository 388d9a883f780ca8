// SPDX-License-Identifier: Apache-2.0
#include "protocol/channel.h"

#include <sys/socket.h>
#include <sys/uio.h>

#include <algorithm>
#include <cstring>

namespace tlsbroker::channel {
namespace {

// SCM_RIGHTS space is rounded up to the alignment of size_t, so the kernel can deliver one int more
// than was asked for. Room for all that can arrive is offered, counted, and closed if too many.
struct ControlBuffer {
  alignas(cmsghdr) char data[CMSG_SPACE(sizeof(int) * (kMaxFds + 1))];
};

Result FromErrno() {
  if (errno == EAGAIN || errno == EWOULDBLOCK) return Result::kWouldBlock;
  if (errno == EPIPE || errno == ECONNRESET || errno == ENOTCONN) return Result::kClosed;
  return Result::kError;
}

// Takes ownership of every descriptor in the message; false if there was any other control message.
bool CollectFds(msghdr& header, std::vector<UniqueFd>& fds) {
  bool only_rights = true;
  for (cmsghdr* c = CMSG_FIRSTHDR(&header); c != nullptr; c = CMSG_NXTHDR(&header, c)) {
    if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS) {
      only_rights = false;
      continue;
    }
    const size_t count = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (size_t i = 0; i < count; ++i) {
      int fd;
      std::memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof(fd));
      fds.emplace_back(fd);
    }
  }
  return only_rights;
}

}  // namespace

Result Send(int socket, std::span<const uint8_t> bytes, std::span<const int> fds, bool dont_wait) {
  if (bytes.empty() || bytes.size() > kMaxMessage || fds.size() > kMaxFds) {
    errno = EMSGSIZE;
    return Result::kError;
  }
  iovec iov{const_cast<uint8_t*>(bytes.data()), bytes.size()};
  ControlBuffer control{};
  msghdr header{};
  header.msg_iov = &iov;
  header.msg_iovlen = 1;
  if (!fds.empty()) {
    header.msg_control = control.data;
    header.msg_controllen = CMSG_SPACE(fds.size_bytes());
    cmsghdr* c = CMSG_FIRSTHDR(&header);
    c->cmsg_level = SOL_SOCKET;
    c->cmsg_type = SCM_RIGHTS;
    c->cmsg_len = CMSG_LEN(fds.size_bytes());
    std::memcpy(CMSG_DATA(c), fds.data(), fds.size_bytes());
  }
  const int flags = MSG_NOSIGNAL | (dont_wait ? MSG_DONTWAIT : 0);
  ssize_t n;
  do {
    n = sendmsg(socket, &header, flags);
  } while (n < 0 && errno == EINTR);
  if (n < 0) return FromErrno();
  return Result::kOk;  // SOCK_SEQPACKET sends all or nothing
}

Result Receive(int socket, size_t max_bytes, size_t max_fds, Message& message, bool dont_wait) {
  max_bytes = std::min(max_bytes, kMaxMessage);
  max_fds = std::min(max_fds, kMaxFds);
  message.fds.clear();
  message.bytes.resize(max_bytes);
  iovec iov{message.bytes.data(), message.bytes.size()};
  ControlBuffer control{};
  msghdr header{};
  header.msg_iov = &iov;
  header.msg_iovlen = 1;
  header.msg_control = control.data;
  header.msg_controllen = sizeof(control.data);
  const int flags = MSG_CMSG_CLOEXEC | (dont_wait ? MSG_DONTWAIT : 0);
  ssize_t n;
  do {
    n = recvmsg(socket, &header, flags);
  } while (n < 0 && errno == EINTR);
  if (n < 0) {
    message.bytes.clear();
    return FromErrno();
  }
  message.bytes.resize(static_cast<size_t>(n));
  const bool only_rights = CollectFds(header, message.fds);
  if ((header.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) != 0 || !only_rights ||
      message.fds.size() > max_fds) {
    return Result::kMalformed;
  }
  // No message of ours is empty, so an empty packet is the end of file.
  if (n == 0) return Result::kClosed;
  return Result::kOk;
}

Result SendEnd(int stream, bool dont_wait) {
  // The descriptor only marks the byte. It is the socket itself, since every sender has that.
  const uint8_t mark = 0;
  return Send(stream, {&mark, 1}, {&stream, 1}, dont_wait);
}

Result ReceiveStream(int stream, std::span<uint8_t> buffer, StreamRead& read) {
  read = {};
  iovec iov{buffer.data(), buffer.size()};
  ControlBuffer control{};
  msghdr header{};
  header.msg_iov = &iov;
  header.msg_iovlen = 1;
  header.msg_control = control.data;
  header.msg_controllen = sizeof(control.data);
  ssize_t n;
  do {
    n = recvmsg(stream, &header, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
  } while (n < 0 && errno == EINTR);
  if (n < 0) return FromErrno();
  if (n == 0) return Result::kClosed;
  std::vector<UniqueFd> fds;
  CollectFds(header, fds);
  // af_unix ends a read after a message that carried descriptors (unix_stream_read_generic), so the
  // mark is the last byte. MSG_CTRUNC: there were more than fit, which is a mark as well.
  read.end = !fds.empty() || (header.msg_flags & MSG_CTRUNC) != 0;
  read.size = static_cast<size_t>(n) - (read.end ? 1 : 0);
  return Result::kOk;
}

std::pair<UniqueFd, UniqueFd> MakePair() {
  int fds[2];
  if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds) != 0) return {};
  return {UniqueFd(fds[0]), UniqueFd(fds[1])};
}

}  // namespace tlsbroker::channel
