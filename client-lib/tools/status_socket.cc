// See the header.

#include "client-lib/tools/status_socket.h"

#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>

#include "protocol/unique_fd.h"

namespace tlsbroker::tools {
namespace {

constexpr int kTimeLimitMs = 5'000;  // without a byte

std::optional<UniqueFd> Connect(const char* command, const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof(address.sun_path)) {
    fprintf(stderr, "%s: %s: longer than a socket's name can be\n", command, path.c_str());
    return std::nullopt;
  }
  std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
  UniqueFd socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (socket &&
      connect(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) == 0) {
    return socket;
  }
  const int error = errno;
  const char* advice = "";
  if (error == EACCES) advice = "; only the user who started the broker may ask, try sudo";
  if (error == ENOENT || error == ECONNREFUSED)
    advice = "; no broker runs with this runtime directory, --runtime-dir names another one";
  fprintf(stderr, "%s: %s: %s%s\n", command, path.c_str(), strerror(error), advice);
  return std::nullopt;
}

std::optional<std::string> ReadAll(const char* command, int socket) {
  std::string text;
  char buffer[16'384];
  for (;;) {
    pollfd entry{socket, POLLIN, 0};
    const int ready = poll(&entry, 1, kTimeLimitMs);
    if (ready < 0 && errno == EINTR) continue;
    const ssize_t n = ready > 0 ? read(socket, buffer, sizeof(buffer)) : -1;
    if (n == 0) return text;
    if (n < 0) {
      fprintf(stderr, "%s: the broker does not answer\n", command);
      return std::nullopt;
    }
    text.append(buffer, static_cast<size_t>(n));
  }
}

}  // namespace

std::optional<StatusAnswer> AskForStatus(const char* command, const std::string& runtime_dir) {
  const auto socket = Connect(command, runtime_dir + "/status");
  if (!socket) return std::nullopt;
  // Whoever called listen(2) on it (unix(7)).
  ucred peer{};
  socklen_t size = sizeof(peer);
  if (getsockopt(socket->get(), SOL_SOCKET, SO_PEERCRED, &peer, &size) != 0) peer.pid = 0;
  auto report = ReadAll(command, socket->get());
  if (!report) return std::nullopt;
  return StatusAnswer{peer.pid, *std::move(report)};
}

}  // namespace tlsbroker::tools
