// SPDX-License-Identifier: Apache-2.0
#include "broker/supervisor/queue.h"

#include <linux/sockios.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include <algorithm>
#include <cstring>
#include <tuple>
#include <vector>

#include "broker/supervisor/elsewhere.h"
#include "broker/support/status.h"
#include "protocol/channel.h"
#include "protocol/handoff.h"

namespace tlsbroker::supervisor {
namespace {

// What one description costs in the sender's buffer: its bytes and the kernel's own structures,
// whose sizes differ between kernels, so it is measured.
absl::StatusOr<int> MeasureMessage() {
  auto [sender, receiver] = channel::MakePair();
  if (!sender) return ErrnoStatus("socketpair");
  const std::vector<uint8_t> description(handoff::kPaddedSize);
  const int fd = receiver.get();
  if (channel::Send(sender.get(), description, {&fd, 1}, /*dont_wait=*/true) !=
      channel::Result::kOk)
    return ErrnoStatus("measuring a queue");
  int cost = 0;
  if (ioctl(sender.get(), SIOCOUTQ, &cost) != 0) return ErrnoStatus("SIOCOUTQ");
  if (cost <= 0) return absl::InternalError("SIOCOUTQ reports no bytes for a waiting message");
  return cost;
}

// The kernel doubles what it is given (sock_setsockopt in net/core/sock.c). Without CAP_NET_ADMIN
// the plain option is clamped to net.core.wmem_max.
bool SetHalfOfSendBuffer(int socket, int half) {
  return setsockopt(socket, SOL_SOCKET, SO_SNDBUFFORCE, &half, sizeof(half)) == 0 ||
         setsockopt(socket, SOL_SOCKET, SO_SNDBUF, &half, sizeof(half)) == 0;
}

// `service` is the service whose processes have the socket by now; null if none has it yet.
absl::StatusOr<int> SetSendBuffer(int socket, int64_t bytes, const std::string* service) {
  const int half = static_cast<int>(std::min<int64_t>(bytes / 2, INT32_MAX / 2));
  const bool set = service == nullptr ? SetHalfOfSendBuffer(socket, half)
                                      : DoElsewhere(socket, SetHalfOfSendBuffer, half, *service);
  if (!set) return absl::InternalError("SO_SNDBUF cannot be set");
  int reached = 0;
  socklen_t size = sizeof(reached);
  if (getsockopt(socket, SOL_SOCKET, SO_SNDBUF, &reached, &size) != 0)
    return ErrnoStatus("SO_SNDBUF");
  return reached;
}

// The connection that waits first, or none.
UniqueFd Take(int queue, int flags) {
  char byte;
  iovec part = {&byte, 1};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))];
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof(control);
  if (recvmsg(queue, &message, flags | MSG_DONTWAIT | MSG_CMSG_CLOEXEC) <= 0) return {};
  const cmsghdr* header = CMSG_FIRSTHDR(&message);
  if (header == nullptr || header->cmsg_type != SCM_RIGHTS) return {};
  int fd;
  std::memcpy(&fd, CMSG_DATA(header), sizeof(fd));
  return UniqueFd(fd);
}

bool ClientHasEnded(int connection) {
  pollfd state{connection, POLLRDHUP, 0};
  return poll(&state, 1, 0) == 1 && (state.revents & (POLLRDHUP | POLLHUP)) != 0;
}

// An errand. If a worker comes in between after all, it is the next connection that is dropped.
bool DropEndedOnes(int queue, int /*unused*/) {
  for (;;) {
    const UniqueFd first = Take(queue, MSG_PEEK);
    if (!first || !ClientHasEnded(first.get())) return true;
    const UniqueFd dropped = Take(queue, 0);
  }
}

}  // namespace

absl::StatusOr<Queue> Queue::Open(uint32_t backlog, const std::string& service) {
  Queue queue(service);
  std::tie(queue.sending_, queue.receiving_) = channel::MakePair();
  if (!queue.sending_) return ErrnoStatus("socketpair");
  // The queue goes one way only. The kernel shuts the other end's sending direction too
  // (unix_shutdown in net/unix/af_unix.c), and nothing opens a direction again: workers cannot
  // write to handshakers, nor fill a buffer that somebody else is charged for.
  if (shutdown(queue.sending_.get(), SHUT_RD) != 0) return ErrnoStatus("shutdown");
  std::tie(queue.requesting_, queue.answering_) = channel::MakePair();
  if (!queue.requesting_) return ErrnoStatus("socketpair");
  if (shutdown(queue.requesting_.get(), SHUT_RD) != 0) return ErrnoStatus("shutdown");
  RETURN_IF_ERROR(queue.Resize(backlog));
  return queue;
}

Queue::~Queue() {
  std::vector<UniqueFd> reading;
  reading.push_back(std::move(receiving_));
  reading.push_back(std::move(answering_));
  CloseElsewhere(std::move(reading), service_);
}

absl::Status Queue::Resize(uint32_t backlog) {
  if (backlog == backlog_) return absl::OkStatus();
  ASSIGN_OR_RETURN(const int cost, MeasureMessage());
  cost_ = cost;
  ASSIGN_OR_RETURN(const int buffer, SetSendBuffer(sending_.get(), int64_t{cost} * backlog,
                                                   backlog_ == 0 ? nullptr : &service_));
  // The kernel takes a message while less than the buffer is used (sock_alloc_send_pskb in
  // net/core/sock.c), so the last one may reach over its end.
  capacity_ = static_cast<uint32_t>((buffer + cost - 1) / cost);
  backlog_ = backlog;
  return absl::OkStatus();
}

uint32_t Queue::waiting() const {
  int used = 0;
  if (ioctl(sending_.get(), SIOCOUTQ, &used) != 0 || used < 0) return 0;
  return static_cast<uint32_t>(used / cost_);
}

void Queue::DropEnded() const { (void)DoElsewhere(receiving_.get(), DropEndedOnes, 0, service_); }

bool Queue::Broken() const {
  // POLLHUP: both directions are shut, the unused one from the start, and now the one that is used.
  pollfd states[] = {{sending_.get(), 0, 0}, {requesting_.get(), 0, 0}};
  return poll(states, 2, 0) > 0 &&
         std::ranges::any_of(states, [](const pollfd& s) { return (s.revents & POLLHUP) != 0; });
}

}  // namespace tlsbroker::supervisor
