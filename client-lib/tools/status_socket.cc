// SPDX-License-Identifier: Apache-2.0
// See the header.

#include "client-lib/tools/status_socket.h"

#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <span>
#include <utility>

#include "client-lib/tools/command.h"
#include "protocol/unique_fd.h"

namespace tlsbroker::tools {
namespace {

constexpr int kTimeLimitMs = 5'000;  // without a byte

// The socket refuses connections while the broker starts, or replaces the process that listens
// there; the tries take a second in all.
constexpr int kTries = 11;
constexpr useconds_t kPauseUs = 100'000;

std::variant<UniqueFd, int> Connect(const char* command, const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof(address.sun_path)) {
    fprintf(stderr, "%s: %s: too long for the name of a socket\n", command, path.c_str());
    return kExitPermanent;
  }
  std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
  int error = 0;
  for (int left = kTries; left > 0; --left) {
    UniqueFd socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    if (socket &&
        connect(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) == 0) {
      return socket;
    }
    error = errno;
    if (error != ECONNREFUSED) break;
    if (left > 1) usleep(kPauseUs);
  }
  const char* advice = "";
  if (error == EACCES) advice = "; only the user who started the broker may ask, try sudo";
  if (error == ENOENT || error == ECONNREFUSED)
    advice = "; no broker runs with this runtime directory, --runtime-dir names another one";
  fprintf(stderr, "%s: %s: %s%s\n", command, path.c_str(), strerror(error), advice);
  return error == EACCES ? kExitPermanent : kExitTemporary;
}

// Keeps the first descriptor that comes and closes any other one.
ssize_t ReceiveSome(int socket, std::span<char> buffer, UniqueFd& fd) {
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))];
  iovec data{buffer.data(), buffer.size()};
  msghdr message{};
  message.msg_iov = &data;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof(control);
  const ssize_t n = recvmsg(socket, &message, MSG_CMSG_CLOEXEC);
  if (n < 0) return n;
  for (cmsghdr* c = CMSG_FIRSTHDR(&message); c != nullptr; c = CMSG_NXTHDR(&message, c)) {
    if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS) continue;
    for (size_t at = 0; CMSG_LEN(at) + sizeof(int) <= c->cmsg_len; at += sizeof(int)) {
      int number;
      std::memcpy(&number, CMSG_DATA(c) + at, sizeof(number));
      UniqueFd came(number);
      if (!fd) fd = std::move(came);
    }
  }
  return n;
}

std::variant<StatusAnswer, int> ReadAll(const char* command, int socket) {
  StatusAnswer answer;
  char buffer[16'384];
  for (;;) {
    pollfd entry{socket, POLLIN, 0};
    const int ready = poll(&entry, 1, kTimeLimitMs);
    if (ready < 0 && errno == EINTR) continue;
    const ssize_t n = ready > 0 ? ReceiveSome(socket, buffer, answer.supervisor) : -1;
    if (n == 0 && !answer.report.empty()) return answer;
    if (n <= 0) {
      fprintf(stderr, "%s: the broker does not answer\n", command);
      return kExitTemporary;
    }
    answer.report.append(buffer, static_cast<size_t>(n));
  }
}

}  // namespace

std::variant<StatusAnswer, int> AskForStatus(const char* command, const std::string& runtime_dir) {
  const auto socket = Connect(command, runtime_dir + "/status");
  if (const int* status = std::get_if<int>(&socket)) return *status;
  return ReadAll(command, std::get<UniqueFd>(socket).get());
}

}  // namespace tlsbroker::tools
