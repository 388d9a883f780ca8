// SPDX-License-Identifier: Apache-2.0
// tlsbrokerd: the supervisor. Started by the administrator or the service manager, both trusted;
// starts everything else. Parses its options and its configuration, sets up, runs.

#include <fcntl.h>
#include <getopt.h>
#include <signal.h>
#include <sysexits.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <optional>
#include <string>
#include <utility>

#include "broker/supervisor/check.h"
#include "broker/supervisor/listeners.h"
#include "broker/supervisor/privileges.h"
#include "broker/supervisor/runtime_dir.h"
#include "broker/supervisor/setup.h"
#include "broker/supervisor/spawn.h"
#include "broker/supervisor/supervisor.h"
#include "broker/support/log.h"

namespace tlsbroker::supervisor {
namespace {

constexpr int kUsageError = 2;

constexpr char kUsage[] =
    "usage: tlsbrokerd [--config FILE] [--check]\n"
    "\n"
    "Terminates TLS for the services of FILE and hands their connections to workers.\n"
    "\n"
    "  --config FILE  the configuration, see tlsbroker.toml(5); /etc/tlsbroker/broker.toml\n"
    "                 without, and conf.d beside it\n"
    "  --check        check it, and keys and certificates, without serving\n"
    "  --help         show this\n"
    "  --version      show the version\n"
    "\n"
    "Signals: HUP reloads, TERM and INT stop in order, QUIT stops now, USR1 opens the log\n"
    "again.\n"
    "Exit status: 0, 1 failed, 2 wrong usage, 78 wrong configuration.\n";

struct Options {
  std::string config = "/etc/tlsbroker/broker.toml";
  bool check = false;
};

// Returns an exit status if the options ask for nothing more.
std::optional<int> ParseOptions(int argc, char** argv, Options& options) {
  const option known[] = {{"config", required_argument, nullptr, 'f'},
                          {"check", no_argument, nullptr, 'c'},
                          {"help", no_argument, nullptr, 'h'},
                          {"version", no_argument, nullptr, 'V'},
                          {nullptr, 0, nullptr, 0}};
  for (int c; (c = getopt_long(argc, argv, "", known, nullptr)) != -1;) {
    if (c == 'f') {
      options.config = optarg;
    } else if (c == 'c') {
      options.check = true;
    } else if (c == 'V') {
      std::puts("tlsbrokerd " TLSBROKER_VERSION);
      return EXIT_SUCCESS;
    } else {
      std::fputs(kUsage, c == 'h' ? stdout : stderr);
      return c == 'h' ? EXIT_SUCCESS : kUsageError;
    }
  }
  if (optind == argc && !options.config.empty()) return std::nullopt;
  if (optind < argc)
    std::fprintf(stderr, "tlsbrokerd: nothing is known of \"%s\"\n\n", argv[optind]);
  else
    std::fputs("tlsbrokerd: --config is empty\n\n", stderr);
  std::fputs(kUsage, stderr);
  return kUsageError;
}

int Fail(const absl::Status& status) {
  log::Error(std::string(status.message()));
  return EXIT_FAILURE;
}

int Check(const Options& options) {
  log::Init("tlsbrokerd", log::Level::kWarning);
  RaiseDescriptorLimit();
  Diagnostics diagnostics(options.config);
  const Checked checked = CheckConfiguration(diagnostics);
  for (const std::string& line : checked.certificates) std::puts(line.c_str());
  for (const std::string& line : diagnostics.warnings())
    std::fprintf(stderr, "%s (warning)\n", line.c_str());
  for (const std::string& line : diagnostics.errors()) std::fprintf(stderr, "%s\n", line.c_str());
  if (diagnostics.failed()) return EX_CONFIG;
  for (const std::string& file : checked.files)
    std::printf("%s: ok\n", log::Printable(file).c_str());
  return EXIT_SUCCESS;
}

int Run(const Options& options) {
  auto inherited = TakeInheritedSockets();
  if (!inherited.ok()) return Fail(inherited.status());
  RaiseDescriptorLimit();

  Diagnostics diagnostics(options.config);
  Setup setup = OpenSetup(diagnostics, *inherited, /*previous=*/nullptr);
  UniqueFd lock;
  if (!diagnostics.failed()) lock = LockRuntimeDir(setup.config.broker, diagnostics);
  for (const std::string& line : diagnostics.warnings()) log::Warning(line);
  for (const std::string& line : diagnostics.errors()) log::Error(line);
  if (diagnostics.failed()) return EX_CONFIG;

  log::Init("tlsbrokerd", setup.config.broker.log_level);
  if (!RunsAsRoot()) {
    log::Notice("not started by root: every process runs as uid " + std::to_string(geteuid()) +
                ", and the 'user' keys of the configuration have no effect");
  }
  return Supervisor(std::move(setup), *std::move(inherited)).Run();
}

// A descriptor that we open must not become somebody's standard output. open(2) takes the lowest
// free number, so this closes the gaps.
void OpenStandardDescriptors() {
  int fd;
  do {
    fd = open("/dev/null", O_RDWR | O_CLOEXEC);
  } while (fd >= 0 && fd <= STDERR_FILENO);
  const UniqueFd surplus(fd);
}

}  // namespace
}  // namespace tlsbroker::supervisor

// What is thrown here ends the process. NOLINTNEXTLINE(bugprone-exception-escape)
int main(int argc, char** argv) {
  using namespace tlsbroker;
  using namespace tlsbroker::supervisor;
  OpenStandardDescriptors();
  Options options;
  if (const auto status = ParseOptions(argc, argv, options)) return *status;
  log::Init("tlsbrokerd");
  signal(SIGPIPE, SIG_IGN);
  signal(SIGCHLD, SIG_DFL);  // an ignored one, inherited, would reap our children before us
  if (const absl::Status status = ReducePrivileges(); !status.ok()) return Fail(status);
  return options.check ? Check(options) : Run(options);
}
