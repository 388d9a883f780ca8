// `tlsbroker connect`: a TLS connection as a filter, standard input to it and standard output from
// it. The broker does the TLS; what comes is the server's and is passed on as it is.

#include <fcntl.h>
#include <netdb.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "client-lib/tools/command.h"
#include "client-lib/tools/exec/options.h"
#include "client-lib/tools/opening.h"
#include "client-lib/tools/option_words.h"

namespace tlsbroker::tools {
namespace {

constexpr char kUsage[] =
    "usage: tlsbroker connect --socket FILE [OPTION]... HOST PORT | UPSTREAM\n"
    "\n"
    "Connects to a TLS server with the help of a running broker, sends it the standard\n"
    "input and writes what it says to the standard output. The end of each direction is\n"
    "passed on; it ends when both have ended.\n"
    "\n"
    "  --socket FILE   SERVICE.sock in the broker's runtime directory. The service needs\n"
    "                  wrap = [\"client\"] for HOST PORT, dial = [\"UPSTREAM\"] for UPSTREAM\n"
    "  --name NAME     the name that the server's certificate has to have; HOST\n"
    "  --alpn NAME     a protocol to offer (ALPN); may be repeated\n"
    "  --certificate NAME\n"
    "                  of the broker's configuration, for a HOST that asks for one\n"
    "  --help          this text\n"
    "\n"
    "Exit status: 0 when both directions have ended cleanly; 100 usage, or an error that\n"
    "lasts, such as a wrong certificate; 111 an error that may pass, such as a cut.\n";

struct ConnectOptions {
  std::string socket;
  std::string target;  // a host, or an upstream
  std::string port;    // of a host; empty: an upstream
  ClientOptions client;
};

std::variant<ConnectOptions, int> Parse(std::span<char* const> arguments) {
  constexpr option kOptions[] = {
      {"socket", required_argument, nullptr, 'k'}, {"name", required_argument, nullptr, 'n'},
      {"alpn", required_argument, nullptr, 'a'},   {"certificate", required_argument, nullptr, 'c'},
      {"help", no_argument, nullptr, 'h'},         {}};
  OptionWords words("tlsbroker connect", arguments);
  ConnectOptions options;
  for (int c; (c = words.Next(kOptions)) != -1;) {
    switch (c) {
      case 'k':
        options.socket = optarg;
        break;
      case 'n':
        options.client.name = optarg;
        break;
      case 'a':
        options.client.alpn.emplace_back(optarg);
        break;
      case 'c':
        options.client.certificate = optarg;
        break;
      case 'h':
        fputs(kUsage, stdout);
        return FinishStdout(kExitOk);
      default:
        return kExitPermanent;
    }
  }
  const std::vector<std::string> target = words.Rest();
  if (options.socket.empty() || target.empty() || target.size() > 2) {
    fputs(kUsage, stderr);
    return kExitPermanent;
  }
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

// To the end of the input, and that too. A server that has enough closes: that is for the other
// direction to judge.
void Send(Connection& connection) {
  std::array<char, 64 * 1024> buffer;
  for (;;) {
    const ssize_t n = read(STDIN_FILENO, buffer.data(), buffer.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return;  // no end: what was sent is not the whole
    if (n == 0) {
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

// 0, or why what came is not the whole.
int Receive(Connection& connection) {
  std::array<char, 64 * 1024> buffer;
  for (;;) {
    const ssize_t n = connection.Read(buffer.data(), buffer.size());
    if (n <= 0) return static_cast<int>(n);
    std::string_view rest(buffer.data(), static_cast<size_t>(n));
    while (!rest.empty()) {
      const ssize_t written = write(STDOUT_FILENO, rest.data(), rest.size());
      if (written < 0 && errno == EINTR) continue;
      if (written < 0) return -errno;
      rest.remove_prefix(static_cast<size_t>(written));
    }
  }
}

}  // namespace

int RunConnect(std::span<char* const> arguments) {
  const auto parsed = Parse(arguments);
  if (const int* status = std::get_if<int>(&parsed)) return *status;
  signal(SIGPIPE, SIG_IGN);
  Connection connection;
  if (const int error = Open(std::get<ConnectOptions>(parsed), connection); error < 0)
    return ExitStatusOf(error);
  std::thread sender([&] { Send(connection); });
  if (const int error = Receive(connection); error < 0) {
    SayWhy("connect", "the connection", error);
    _exit(kExitTemporary);  // whatever the standard input has to say
  }
  { const UniqueFd closed(STDOUT_FILENO); }
  sender.join();
  const int result = connection.Close();
  return result < 0 ? ExitStatusOf(SayWhy("connect", "the connection", result)) : kExitOk;
}

}  // namespace tlsbroker::tools
