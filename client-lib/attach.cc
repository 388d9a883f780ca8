// Attaching to a service's queue (PROTOCOL.md section 1.1). Part of libtlsbroker; the socket is in
// a directory that only the broker writes to, and what comes from it is checked all the same.

#include "protocol/attach.h"

#include <sys/socket.h>
#include <sys/un.h>

#include <cerrno>
#include <cstring>
#include <memory>
#include <new>
#include <string_view>
#include <utility>

#include "client-lib/confine.h"
#include "client-lib/connection.h"
#include "protocol/channel.h"
#include "tlsbroker/tlsbroker.h"

namespace {

using tlsbroker::UniqueFd;
namespace attach = tlsbroker::attach;
namespace channel = tlsbroker::channel;

// connect(2) on a Unix socket waits for room in the listener's backlog, and can be interrupted
// then.
int Connect(const char* path, UniqueFd& socket) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (std::strlen(path) >= sizeof(address.sun_path)) return -ENAMETOOLONG;
  std::strcpy(address.sun_path, path);
  socket.Reset(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
  if (!socket) return -errno;
  int result = 0;
  do {
    result = connect(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address));
  } while (result != 0 && errno == EINTR);
  return result == 0 ? 0 : -errno;
}

int ReceiveQueue(int socket, tlsbroker_queue& queue) {
  channel::Message message;
  switch (channel::Receive(socket, attach::kSize, 2, message)) {
    case channel::Result::kOk:
      break;
    case channel::Result::kClosed:
      return -ECONNRESET;
    case channel::Result::kMalformed:
    case channel::Result::kWouldBlock:
      return TLSBROKER_E_HANDOFF;
    case channel::Result::kError:
      return -errno;
  }
  const auto answer = attach::Decode(message.bytes);
  if (!answer) return TLSBROKER_E_HANDOFF;
  if (*answer == attach::Answer::kNotAllowed) return -EACCES;
  if (*answer == attach::Answer::kTooMany) return -EUSERS;
  if (message.fds.size() != 2) return TLSBROKER_E_HANDOFF;
  queue.fd = std::move(message.fds[0]);
  queue.requests = std::make_shared<UniqueFd>(std::move(message.fds[1]));
  return 0;
}

int Attach(const char* path, tlsbroker_queue** result) {
  // Before there is a descriptor with keys in it.
  if (const int error = tlsbroker::client::GiveUpKeys(); error < 0) return error;
  auto queue = std::make_unique<tlsbroker_queue>();
  if (const int error = Connect(path, queue->attachment); error < 0) return error;
  if (const int error = ReceiveQueue(queue->attachment.get(), *queue); error < 0) return error;
  *result = queue.release();
  return 0;
}

}  // namespace

int tlsbroker_attach(const char* path, tlsbroker_queue** queue) {
  try {
    return Attach(path, queue);
  } catch (const std::bad_alloc&) {
    return -ENOMEM;
  }
}
