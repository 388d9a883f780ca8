// `tlsbroker wrap`: has the plain TCP connection that this program was started with made a TLS one,
// and runs another program with it. Stands where inetd, tcpserver or systemd start a program for
// each connection.

#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include <cstdio>
#include <cstring>
#include <string>
#include <variant>
#include <vector>

#include "broker/support/log.h"
#include "client-lib/tools/command.h"
#include "client-lib/tools/exec/options.h"
#include "client-lib/tools/exec/session.h"
#include "client-lib/tools/opening.h"
#include "client-lib/tools/option_words.h"

namespace tlsbroker::tools {
namespace {

constexpr char kUsage[] =
    "usage: tlsbroker wrap --socket FILE [OPTION]... [--] PROGRAM [ARGUMENT]...\n"
    "\n"
    "Takes the TCP connection that is its standard input, as inetd, tcpserver and systemd\n"
    "give one, does a TLS handshake on it with the help of a running broker, and runs\n"
    "PROGRAM with the plaintext as standard input and output. See `tlsbroker exec` for how\n"
    "the program's end ends the connection.\n"
    "\n"
    "  --socket FILE   SERVICE.sock in the broker's runtime directory. The service needs\n"
    "                  wrap = [\"server\"], or [\"client\"]\n"
    "  --client NAME   be the client, and verify that the server is NAME; else the server\n"
    "  --alpn NAME     with --client, a protocol to offer (ALPN); may be repeated\n"
    "  --certificate NAME\n"
    "                  with --client, of the broker's configuration, if the server asks\n"
    "  --fd N          the connection is descriptor N, as 6 under tcpclient; 0\n"
    "  --help          this text\n"
    "\n"
    "Exit status: 0; 100 usage, or an error that lasts; 111 an error that may pass.\n";

struct WrapOptions {
  std::string socket;
  ClientOptions client;  // no name: the server
  int fd = STDIN_FILENO;
  ExecOptions exec;
};

std::variant<WrapOptions, int> Parse(std::span<char* const> arguments) {
  constexpr option kOptions[] = {{"socket", required_argument, nullptr, 'k'},
                                 {"client", required_argument, nullptr, 'c'},
                                 {"alpn", required_argument, nullptr, 'a'},
                                 {"certificate", required_argument, nullptr, 'e'},
                                 {"fd", required_argument, nullptr, 'f'},
                                 {"help", no_argument, nullptr, 'h'},
                                 {}};
  OptionWords words("tlsbroker wrap", arguments);
  WrapOptions options;
  for (int c; (c = words.Next(kOptions)) != -1;) {
    bool good = true;
    switch (c) {
      case 'k':
        options.socket = optarg;
        break;
      case 'c':
        options.client.name = optarg;
        good = !options.client.name.empty();
        break;
      case 'a':
        options.client.alpn.emplace_back(optarg);
        break;
      case 'e':
        options.client.certificate = optarg;
        break;
      case 'f':
        good = ParseNumber(optarg, options.fd) && options.fd >= 0;
        break;
      case 'h':
        fputs(kUsage, stdout);
        return FinishStdout(kExitOk);
      default:
        good = false;
    }
    if (!good) return kExitPermanent;
  }
  options.exec.program = words.Rest();
  const bool only_of_a_client = !options.client.alpn.empty() || !options.client.certificate.empty();
  const bool contradicts = options.client.name.empty() && only_of_a_client;
  if (!options.socket.empty() && !options.exec.program.empty() && !contradicts) return options;
  fputs(kUsage, stderr);
  return kExitPermanent;
}

// Nobody but the broker writes on the connection from here on: the copies of it in the places of
// standard input and output go.
UniqueFd TakeSocket(int fd) {
  UniqueFd socket(fcntl(fd, F_DUPFD_CLOEXEC, STDERR_FILENO + 1));
  const UniqueFd null(open("/dev/null", O_RDWR | O_CLOEXEC));
  for (const int standard : {STDIN_FILENO, STDOUT_FILENO}) dup2(null.get(), standard);
  if (fd > STDERR_FILENO) const UniqueFd closed(fd);
  return socket;
}

}  // namespace

int RunWrap(std::span<char* const> arguments) {
  auto parsed = Parse(arguments);
  if (const int* status = std::get_if<int>(&parsed)) return *status;
  const WrapOptions& options = std::get<WrapOptions>(parsed);
  log::Init("wrap", log::InheritedLevel());
  SessionFilter filter;
  if (const int refused = filter.Make(); refused < 0) {
    log::Error("no filter for the connection" + log::Field("why", strerror(-refused)));
    return kExitTemporary;
  }
  const bool client = !options.client.name.empty();
  Connection connection;
  const int error =
      WrapSocket("wrap", options.socket, TakeSocket(options.fd),
                 client ? TLSBROKER_CLIENT : TLSBROKER_SERVER, options.client, connection);
  if (error < 0) return ExitStatusOf(error);
  sigset_t term;
  sigemptyset(&term);
  sigaddset(&term, SIGTERM);
  sigprocmask(SIG_BLOCK, &term, nullptr);
  ServeByProgram(Task(std::move(connection), options.exec), options.exec, filter);
  return kExitOk;
}

}  // namespace tlsbroker::tools
