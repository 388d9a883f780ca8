// SPDX-License-Identifier: Apache-2.0
// The queue: finding it in the environment and taking connections from it (PROTOCOL.md sections 1
// and 2). Part of libtlsbroker; runs in workers, and checks what the broker sends all the same.

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <cstdlib>
#include <memory>
#include <string>
#include <string_view>

#include "client-lib/ask.h"
#include "client-lib/connection.h"
#include "client-lib/guarded.h"
#include "protocol/channel.h"
#include "tlsbroker/tlsbroker.h"

namespace {

using tlsbroker::UniqueFd;
namespace channel = tlsbroker::channel;
namespace client = tlsbroker::client;
namespace handoff = tlsbroker::handoff;

constexpr int kFirstFd = 3;  // SD_LISTEN_FDS_START
constexpr std::string_view kNamePrefix = "tlsbroker.";
constexpr std::string_view kRequestsPrefix = "tlsbroker-requests.";

int NumberOr(const char* text, int fallback) {
  const std::string_view view(text == nullptr ? "" : text);
  int value = 0;
  const auto [end, error] = std::from_chars(view.data(), view.data() + view.size(), value);
  return error == std::errc() && end == view.data() + view.size() ? value : fallback;
}

// The variables of sd_listen_fds(3), which are taken out of the environment.
struct ListenFds {
  int count = 0;
  std::string names;

  static ListenFds Take() {
    ListenFds fds;
    if (NumberOr(getenv("LISTEN_PID"), -1) == getpid()) {
      fds.count = NumberOr(getenv("LISTEN_FDS"), 0);
      if (const char* names = getenv("LISTEN_FDNAMES"); names != nullptr) fds.names = names;
    }
    for (const char* variable : {"LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "LISTEN_PIDFDID"})
      unsetenv(variable);
    return fds;
  }

  // Stops at the first number that is no open descriptor, however many LISTEN_FDS says there are.
  void SetCloseOnExec() const {
    for (int i = 0; i < count; ++i)
      if (fcntl(kFirstFd + i, F_SETFD, FD_CLOEXEC) < 0) return;
  }

  // The name of the socket for requests of the service whose queue is `queue`.
  std::string RequestsName(int queue) const {
    std::string_view rest = names;
    for (int i = kFirstFd; i < queue; ++i)
      rest.remove_prefix(std::min(rest.find(':') + 1, rest.size()));
    const std::string_view name = rest.substr(0, rest.find(':'));
    return std::string(kRequestsPrefix) + std::string(name.substr(kNamePrefix.size()));
  }

  // -1 if there is none.
  template <typename Predicate>
  int Find(Predicate is_wanted) const {
    std::string_view rest = names;
    for (int i = 0; i < count && !rest.empty(); ++i) {
      const std::string_view name = rest.substr(0, rest.find(':'));
      if (is_wanted(name)) return kFirstFd + i;
      rest.remove_prefix(std::min(name.size() + 1, rest.size()));
    }
    return -1;
  }
};

int SocketOption(int fd, int option, int& value) {
  socklen_t size = sizeof(value);
  return getsockopt(fd, SOL_SOCKET, option, &value, &size) < 0 ? -errno : 0;
}

int CheckIsQueue(int fd) {
  int domain = 0;
  int type = 0;
  if (const int error = SocketOption(fd, SO_DOMAIN, domain); error < 0) return error;
  if (const int error = SocketOption(fd, SO_TYPE, type); error < 0) return error;
  return domain == AF_UNIX && type == SOCK_SEQPACKET ? 0 : -EPROTOTYPE;
}

int ReceiveError(channel::Result result) {
  switch (result) {
    case channel::Result::kOk:
      return 0;
    case channel::Result::kWouldBlock:
      return -EAGAIN;
    case channel::Result::kClosed:
      return TLSBROKER_E_GONE;
    case channel::Result::kMalformed:
      return TLSBROKER_E_HANDOFF;
    case channel::Result::kError:
      break;
  }
  return -errno;
}

int Take(const tlsbroker_queue& queue, bool dont_wait, tlsbroker_conn** conn) {
  if (const int error = client::CheckFreeDescriptor(queue.fd.get()); error < 0) return error;
  channel::Message message;
  const channel::Result result =
      channel::Receive(queue.fd.get(), handoff::kMaxMessage, 1, message, dont_wait);
  if (const int error = ReceiveError(result); error < 0) return error;
  if (message.fds.size() != 1) return TLSBROKER_E_HANDOFF;
  auto description = handoff::Decode(message.bytes);
  if (!description) return TLSBROKER_E_HANDOFF;
  *conn = new tlsbroker_conn(std::move(message.fds[0]), *std::move(description),
                             client::RequestsOf(queue));
  return 0;
}

// In the meantime the broker may go away and come back.
int TakeAttached(tlsbroker_queue& queue, bool dont_wait, tlsbroker_conn** conn) {
  while (true) {
    int result = Take(queue, /*dont_wait=*/true, conn);
    if (result == TLSBROKER_E_GONE) {
      result = queue.attachment->GoOn(queue);
      if (result == 0) continue;
    }
    if (result != -EAGAIN || dont_wait) return result;
    pollfd events = {queue.attachment->fd(), POLLIN, 0};
    (void)poll(&events, 1, -1);
  }
}

int Accept(tlsbroker_queue& queue, bool dont_wait, tlsbroker_conn** conn) {
  return queue.attachment ? TakeAttached(queue, dont_wait, conn) : Take(queue, dont_wait, conn);
}

}  // namespace

std::shared_ptr<UniqueFd> tlsbroker::client::RequestsOf(const tlsbroker_queue& queue) {
  return queue.attachment ? queue.attachment->requests(queue) : queue.requests;
}

int tlsbroker_queue_from_environment(const char* service, tlsbroker_queue** queue) {
  return client::Guarded([&] {
    const ListenFds fds = ListenFds::Take();
    fds.SetCloseOnExec();
    const std::string wanted = std::string(kNamePrefix) + (service == nullptr ? "" : service);
    const int fd = fds.Find([&](std::string_view name) {
      return service == nullptr ? name.starts_with(wanted) : name == wanted;
    });
    if (fd < 0) return -ENOENT;
    const std::string requests = fds.RequestsName(fd);
    const int requests_fd = fds.Find([&](std::string_view name) { return name == requests; });
    const int result = tlsbroker_queue_from_fd(fd, queue);
    if (result == 0 && requests_fd >= 0 && CheckIsQueue(requests_fd) == 0) {
      (*queue)->requests = std::make_shared<UniqueFd>(requests_fd);
    }
    return result;
  });
}

int tlsbroker_queue_from_fd(int fd, tlsbroker_queue** queue) {
  return client::Guarded([&] {
    if (const int error = CheckIsQueue(fd); error < 0) return error;
    auto made = std::make_unique<tlsbroker_queue>();
    made->fd.Reset(fd);
    *queue = made.release();
    return 0;
  });
}

int tlsbroker_queue_fd(const tlsbroker_queue* queue) {
  return queue->attachment ? queue->attachment->fd() : queue->fd.get();
}

void tlsbroker_queue_free(tlsbroker_queue* queue) { delete queue; }

int tlsbroker_accept(tlsbroker_queue* queue, unsigned flags, tlsbroker_conn** conn) {
  if ((flags & ~TLSBROKER_DONTWAIT) != 0) return -EINVAL;
  return client::Guarded([&] { return Accept(*queue, (flags & TLSBROKER_DONTWAIT) != 0, conn); });
}
