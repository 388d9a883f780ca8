// SPDX-License-Identifier: Apache-2.0
// `tlsbroker connect`: sends its standard input over a TLS connection, and what comes from there to
// its standard output. The broker does the TLS; what comes is the server's and is passed on as it
// is.

#include <fcntl.h>
#include <netdb.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <condition_variable>
#include <cstdio>
#include <cstring>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "client-lib/tools/command.h"
#include "client-lib/tools/exec/options.h"
#include "client-lib/tools/opening.h"
#include "client-lib/tools/options.h"

namespace tlsbroker::tools {
namespace {

using Clock = std::chrono::steady_clock;

struct ConnectOptions {
  // From the end of the input, and from the last byte that came; nullopt: never.
  std::optional<std::chrono::milliseconds> end_after = std::chrono::seconds(1);
  std::string socket;
  std::string target;  // a host, or an upstream
  std::string port;    // of a host; empty: an upstream
  ClientOptions client;
};

std::variant<ConnectOptions, int> ParseConnect(std::span<char* const> arguments) {
  ConnectOptions options;
  std::vector<std::string> target;
  const CommandLine line{
      .command = "connect",
      .usage = "--socket FILE [OPTION]... HOST PORT | UPSTREAM",
      .about =
          "Connects to a TLS server with the help of a running broker, sends it the standard "
          "input and writes what it says to the standard output. It ends when both directions have "
          "ended.",
      .exit_status =
          "0 when both directions have ended cleanly; 100 usage, or an error that lasts, "
          "such as a wrong certificate; 111 an error that may pass, such as a cut.",
      .options = {Text("socket", "FILE", options.socket,
                       "SERVICE.sock in the broker's runtime directory. The service needs wrap = "
                       "[\"client\"] for HOST PORT, dial = [\"UPSTREAM\"] for UPSTREAM"),
                  Text("name", "NAME", options.client.name,
                       "the name that the server's certificate has to have; HOST"),
                  Texts("alpn", "NAME", options.client.alpn,
                        "a protocol to offer (ALPN); may be repeated"),
                  Text("certificate", "NAME", options.client.certificate,
                       "of the broker's configuration, for a HOST that asks for one"),
                  TimeOrNever("end-after", options.end_after,
                              "when the standard input has ended, end the connection's direction "
                              "too, as soon as the server has said nothing for so long; 0, at "
                              "once; 1s")},
      .words = &target,
      .word = "HOST or UPSTREAM",
      .most_words = 2};
  if (const auto status = ParseCommandLine(line, arguments)) return *status;
  if (options.socket.empty()) return RefuseCommandLine(line, "--socket is needed");
  options.target = target[0];
  if (target.size() == 2) options.port = target[1];
  return options;
}

UniqueFd ConnectTo(const std::string& host, const std::string& port) {
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* found = nullptr;
  const int error = getaddrinfo(host.c_str(), port.c_str(), &hints, &found);
  if (error != 0) {
    fprintf(stderr, "tlsbroker connect: %s: %s\n", host.c_str(), gai_strerror(error));
    return {};
  }
  UniqueFd connected;
  for (const addrinfo* at = found; at != nullptr && !connected; at = at->ai_next) {
    UniqueFd fd(socket(at->ai_family, SOCK_STREAM | SOCK_CLOEXEC, at->ai_protocol));
    if (fd && connect(fd.get(), at->ai_addr, at->ai_addrlen) == 0) connected = std::move(fd);
  }
  if (!connected) {
    fprintf(stderr, "tlsbroker connect: %s:%s: %s\n", host.c_str(), port.c_str(), strerror(errno));
  }
  freeaddrinfo(found);
  return connected;
}

int Open(const ConnectOptions& options, Connection& connection) {
  if (!options.port.empty()) {
    UniqueFd socket = ConnectTo(options.target, options.port);
    if (!socket) return TLSBROKER_E_CONNECT;
    ClientOptions client = options.client;
    if (client.name.empty()) client.name = options.target;
    return WrapSocket("connect", options.socket, std::move(socket), TLSBROKER_CLIENT, client,
                      connection);
  }
  Queue queue;
  if (const int error = Queue::Attach(options.socket.c_str(), queue); error < 0)
    return SayWhy("connect", options.socket.c_str(), error);
  const int result = queue.Dial(options.target.c_str(), connection);
  return result < 0 ? SayWhy("connect", options.target.c_str(), result) : 0;
}

// What one thread has to know of the other.
class Listening {
 public:
  void Heard() {
    const std::lock_guard lock(mutex_);
    last_ = Clock::now();
  }
  void End() {
    const std::lock_guard lock(mutex_);
    ended_ = true;
    changed_.notify_all();
  }
  // Returns when nothing has been heard for so long, or when all has been.
  void AwaitSilence(std::optional<std::chrono::milliseconds> time) {
    std::unique_lock lock(mutex_);
    last_ = Clock::now();
    const auto ended = [this] { return ended_; };
    if (!time) return changed_.wait(lock, ended);
    // The time may have become later meanwhile.
    for (Clock::time_point due = last_ + *time; !ended_ && Clock::now() < due; due = last_ + *time)
      changed_.wait_until(lock, due, ended);
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  Clock::time_point last_;
  bool ended_ = false;
};

// After a read or write of `fd` that failed: whether to try it again. Waits until that is worth it.
// O_NONBLOCK belongs to the open pipe and not to a process, and callers such as distcc leave it on.
bool TryAgain(int fd, short event) {
  if (errno != EAGAIN) return errno == EINTR;
  pollfd ready{.fd = fd, .events = event, .revents = 0};
  poll(&ready, 1, -1);
  return true;
}

// Sends the input to its end, and then the end itself, but not at once: TLS lets a server that is
// told of the end drop what it has not written yet, and nginx does so. A server that has enough
// closes before; Receive() finds out whether that was right.
void Send(Connection& connection, const ConnectOptions& options, Listening& listening) {
  std::array<char, 64 * 1024> buffer;
  for (;;) {
    const ssize_t n = read(STDIN_FILENO, buffer.data(), buffer.size());
    if (n < 0 && TryAgain(STDIN_FILENO, POLLIN)) continue;
    if (n < 0) return;  // no end is sent: the input is not complete
    if (n == 0) {
      listening.AwaitSilence(options.end_after);
      (void)connection.EndWrite();
      return;
    }
    std::string_view rest(buffer.data(), static_cast<size_t>(n));
    while (!rest.empty()) {
      const ssize_t sent = connection.Write(rest);
      if (sent < 0) return;
      rest.remove_prefix(static_cast<size_t>(sent));
    }
  }
}

// Returns 0, or why the output is not complete.
int Receive(Connection& connection, Listening& listening) {
  std::array<char, 64 * 1024> buffer;
  for (;;) {
    const ssize_t n = connection.Read(buffer.data(), buffer.size());
    if (n <= 0) return static_cast<int>(n);
    listening.Heard();
    std::string_view rest(buffer.data(), static_cast<size_t>(n));
    while (!rest.empty()) {
      const ssize_t written = write(STDOUT_FILENO, rest.data(), rest.size());
      if (written < 0 && TryAgain(STDOUT_FILENO, POLLOUT)) continue;
      if (written < 0) return -errno;
      rest.remove_prefix(static_cast<size_t>(written));
    }
  }
}

}  // namespace

int RunConnect(std::span<char* const> arguments) {
  const auto parsed = ParseConnect(arguments);
  if (const int* status = std::get_if<int>(&parsed)) return *status;
  signal(SIGPIPE, SIG_IGN);
  const auto& options = std::get<ConnectOptions>(parsed);
  Connection connection;
  if (const int error = Open(options, connection); error < 0) return ExitStatusOf(error);
  Listening listening;
  std::thread sender([&] { Send(connection, options, listening); });
  if (const int error = Receive(connection, listening); error < 0) {
    SayWhy("connect", "the connection", error);
    _exit(kExitTemporary);  // even if the other thread still waits for input
  }
  listening.End();
  { const UniqueFd closed(STDOUT_FILENO); }
  sender.join();
  const int result = connection.Close();
  return result < 0 ? ExitStatusOf(SayWhy("connect", "the connection", result)) : kExitOk;
}

}  // namespace tlsbroker::tools
