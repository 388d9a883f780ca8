// `tlsbroker status`: reads the broker's state from its status socket and prints it.

#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>

#include "client-lib/tools/command.h"
#include "client-lib/tools/status_table.h"
#include "protocol/unique_fd.h"

namespace tlsbroker::tools {
namespace {

constexpr int kTimeLimitMs = 5'000;  // without a byte

constexpr char kUsage[] =
    "usage: tlsbroker status [--json] [--runtime-dir DIR]\n"
    "\n"
    "Prints what a running broker does: services, workers, processes, certificates,\n"
    "handshakes, limits that were hit, and what its confinement lacks here.\n"
    "\n"
    "  --json             all of it as JSON\n"
    "  --runtime-dir DIR  of the broker, \"/run/tlsbroker\" otherwise\n"
    "  --help             this text\n"
    "\n"
    "Exit status: 0; 1 if no broker answers; 2 usage.\n";

struct Options {
  bool json = false;
  bool help = false;
  std::string runtime_dir = "/run/tlsbroker";
};

std::optional<Options> ParseOptions(std::span<char* const> arguments) {
  Options options;
  for (size_t i = 0; i < arguments.size(); ++i) {
    const std::string_view argument = arguments[i];
    if (argument == "--json") {
      options.json = true;
    } else if (argument == "--help" || argument == "-h") {
      options.help = true;
    } else if (argument == "--runtime-dir" && i + 1 < arguments.size()) {
      options.runtime_dir = arguments[++i];
    } else {
      fprintf(stderr, "tlsbroker status: unexpected argument \"%s\"\n%s", arguments[i], kUsage);
      return std::nullopt;
    }
  }
  return options;
}

std::optional<UniqueFd> Connect(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof(address.sun_path)) {
    fprintf(stderr, "tlsbroker status: %s: longer than a socket's name can be\n", path.c_str());
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
  fprintf(stderr, "tlsbroker status: %s: %s%s\n", path.c_str(), strerror(error), advice);
  return std::nullopt;
}

std::optional<std::string> ReadAll(int socket) {
  std::string text;
  char buffer[16'384];
  for (;;) {
    pollfd entry{socket, POLLIN, 0};
    const int ready = poll(&entry, 1, kTimeLimitMs);
    if (ready < 0 && errno == EINTR) continue;
    const ssize_t n = ready > 0 ? read(socket, buffer, sizeof(buffer)) : -1;
    if (n == 0) return text;
    if (n < 0) {
      fputs("tlsbroker status: the broker does not answer\n", stderr);
      return std::nullopt;
    }
    text.append(buffer, static_cast<size_t>(n));
  }
}

std::optional<std::string> Format(const std::string& text) {
  try {
    return FormatStatus(nlohmann::ordered_json::parse(text));
  } catch (const nlohmann::json::exception& error) {
    fprintf(stderr, "tlsbroker status: the broker is of another version: %s\n", error.what());
    return std::nullopt;
  }
}

}  // namespace

int RunStatus(std::span<char* const> arguments) {
  const std::optional<Options> options = ParseOptions(arguments);
  if (!options) return kExitUsage;
  if (options->help) {
    fputs(kUsage, stdout);
    return FinishStdout(kExitOk);
  }
  const auto socket = Connect(options->runtime_dir + "/status");
  if (!socket) return kExitFailed;
  std::optional<std::string> text = ReadAll(socket->get());
  if (text && !options->json) text = Format(*text);
  if (!text) return kExitFailed;
  fputs(text->c_str(), stdout);
  return FinishStdout(kExitOk);
}

}  // namespace tlsbroker::tools
