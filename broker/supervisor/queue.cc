#include "broker/supervisor/queue.h"

#include <linux/sockios.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include <algorithm>
#include <tuple>
#include <vector>

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
  if (cost <= 0) return absl::InternalError("SIOCOUTQ says that a waiting message costs nothing");
  return cost;
}

// The kernel doubles what it is given (sock_setsockopt in net/core/sock.c). Without CAP_NET_ADMIN
// the plain option is clamped to net.core.wmem_max.
absl::StatusOr<int> SetSendBuffer(int socket, int64_t bytes) {
  const int half = static_cast<int>(std::min<int64_t>(bytes / 2, INT32_MAX / 2));
  if (setsockopt(socket, SOL_SOCKET, SO_SNDBUFFORCE, &half, sizeof(half)) != 0 &&
      setsockopt(socket, SOL_SOCKET, SO_SNDBUF, &half, sizeof(half)) != 0)
    return ErrnoStatus("SO_SNDBUF");
  int reached = 0;
  socklen_t size = sizeof(reached);
  if (getsockopt(socket, SOL_SOCKET, SO_SNDBUF, &reached, &size) != 0)
    return ErrnoStatus("SO_SNDBUF");
  return reached;
}

}  // namespace

absl::StatusOr<Queue> Queue::Open(uint32_t backlog) {
  Queue queue;
  std::tie(queue.sending_, queue.receiving_) = channel::MakePair();
  if (!queue.sending_) return ErrnoStatus("socketpair");
  // One way only. The kernel shuts the other end's sending direction too (unix_shutdown in
  // net/unix/af_unix.c), and nothing opens a direction again: workers cannot write to handshakers,
  // nor fill a buffer that somebody else is charged for.
  if (shutdown(queue.sending_.get(), SHUT_RD) != 0) return ErrnoStatus("shutdown");
  std::tie(queue.requesting_, queue.answering_) = channel::MakePair();
  if (!queue.requesting_) return ErrnoStatus("socketpair");
  if (shutdown(queue.requesting_.get(), SHUT_RD) != 0) return ErrnoStatus("shutdown");
  RETURN_IF_ERROR(queue.Resize(backlog));
  return queue;
}

absl::Status Queue::Resize(uint32_t backlog) {
  ASSIGN_OR_RETURN(const int cost, MeasureMessage());
  cost_ = cost;
  ASSIGN_OR_RETURN(const int buffer, SetSendBuffer(sending_.get(), int64_t{cost} * backlog));
  // A message is let in while less than the buffer is used (sock_alloc_send_pskb in
  // net/core/sock.c), so the last one may reach over its end.
  capacity_ = static_cast<uint32_t>((buffer + cost - 1) / cost);
  return absl::OkStatus();
}

uint32_t Queue::waiting() const {
  int used = 0;
  if (ioctl(sending_.get(), SIOCOUTQ, &used) != 0 || used < 0) return 0;
  return static_cast<uint32_t>(used / cost_);
}

absl::StatusOr<UniqueFd> Queue::OpenWaitDescriptor() const {
  UniqueFd poll(epoll_create1(EPOLL_CLOEXEC));
  epoll_event event{};
  event.events = EPOLLIN;
  if (!poll || epoll_ctl(poll.get(), EPOLL_CTL_ADD, receiving_.get(), &event) != 0) {
    return ErrnoStatus("epoll");
  }
  return poll;
}

bool Queue::Broken() const {
  // Both directions shut: ours from the start, and now the one that is used.
  pollfd state{sending_.get(), 0, 0};
  return poll(&state, 1, 0) == 1 && (state.revents & POLLHUP) != 0;
}

}  // namespace tlsbroker::supervisor
