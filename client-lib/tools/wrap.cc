// SPDX-License-Identifier: Apache-2.0
// `tlsbroker wrap`: has the plain TCP connection that this program was started with turned into a
// TLS connection, and runs another program with it. It stands where inetd, tcpserver or systemd
// start a program for each connection.

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
#include "client-lib/tools/options.h"

namespace tlsbroker::tools {
namespace {

struct WrapOptions {
  std::string socket;
  ClientOptions client;  // without a name: we are the server
  int fd = STDIN_FILENO;
  ExecOptions exec;
};

std::variant<WrapOptions, int> ParseWrap(std::span<char* const> arguments) {
  WrapOptions options;
  const CommandLine line{
      .command = "wrap",
      .usage = "--socket FILE [OPTION]... [--] PROGRAM [ARGUMENT]...",
      .about =
          "Takes the TCP connection that is its standard input, as inetd, tcpserver and systemd "
          "give one, does a TLS handshake on it with the help of a running broker, and runs "
          "PROGRAM with the plaintext as standard input and output. See `tlsbroker exec` for "
          "how the program's end ends the connection.",
      .exit_status = kChainExitStatus,
      .options = {Text("socket", "FILE", options.socket,
                       "SERVICE.sock in the broker's runtime directory. The service needs wrap = "
                       "[\"server\"], or [\"client\"]"),
                  Text("client", "NAME", options.client.name,
                       "be the client, and verify that the server is NAME; else the server"),
                  Texts("alpn", "NAME", options.client.alpn,
                        "with --client, a protocol to offer (ALPN); may be repeated"),
                  Text("certificate", "NAME", options.client.certificate,
                       "with --client, of the broker's configuration, if the server asks"),
                  Number("fd", "N", options.fd, 0,
                         "the connection is descriptor N, as 6 under tcpclient; 0")},
      .words = &options.exec.program,
      .word = "PROGRAM"};
  if (const auto status = ParseCommandLine(line, arguments)) return *status;
  if (options.socket.empty()) return RefuseCommandLine(line, "--socket is needed");
  const bool only_of_a_client = !options.client.alpn.empty() || !options.client.certificate.empty();
  if (options.client.name.empty() && only_of_a_client)
    return RefuseCommandLine(line, "--alpn and --certificate: --client is needed with them");
  return options;
}

// From here on only the broker may write on the connection, so this removes the copies of the
// socket that are standard input and output.
UniqueFd TakeSocket(int fd) {
  UniqueFd socket(fcntl(fd, F_DUPFD_CLOEXEC, STDERR_FILENO + 1));
  const UniqueFd null(open("/dev/null", O_RDWR | O_CLOEXEC));
  for (const int standard : {STDIN_FILENO, STDOUT_FILENO}) dup2(null.get(), standard);
  if (fd > STDERR_FILENO) const UniqueFd closed(fd);
  return socket;
}

}  // namespace

int RunWrap(std::span<char* const> arguments) {
  auto parsed = ParseWrap(arguments);
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
