// SPDX-License-Identifier: Apache-2.0
#include "tests/unit/under_filter.h"

#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <map>
#include <optional>
#include <sstream>

#include "client-lib/filter.h"
#include "protocol/unique_fd.h"

namespace tlsbroker {
namespace {

constexpr int kFailed = 1;
constexpr int kNotReady = 2;
constexpr unsigned kTimeLimit = 60;  // seconds

// ---- From the text of a call to a rule

const std::map<std::string, int> kConstants = {
    {"F_GETFL", F_GETFL},
    {"F_SETFL", F_SETFL},
    {"F_SETFD", F_SETFD},
    {"F_DUPFD_CLOEXEC", F_DUPFD_CLOEXEC},
    {"F_GETPIPE_SZ", F_GETPIPE_SZ},
    {"FIONREAD", FIONREAD},
    {"AF_UNIX", AF_UNIX},
    {"SOCK_SEQPACKET", SOCK_SEQPACKET},
    {"SOL_SOCKET", SOL_SOCKET},
    {"SO_DOMAIN", SO_DOMAIN},
    {"SO_TYPE", SO_TYPE},
    {"SO_PROTOCOL", SO_PROTOCOL},
    {"SO_ERROR", SO_ERROR},
    {"SO_RCVTIMEO", SO_RCVTIMEO},
    {"PR_SET_NO_NEW_PRIVS", PR_SET_NO_NEW_PRIVS},
    {"SECCOMP_SET_MODE_STRICT", SECCOMP_SET_MODE_STRICT},
    {"SECCOMP_SET_MODE_FILTER", SECCOMP_SET_MODE_FILTER},
    {"SECCOMP_GET_ACTION_AVAIL", SECCOMP_GET_ACTION_AVAIL},
    {"SECCOMP_GET_NOTIF_SIZES", SECCOMP_GET_NOTIF_SIZES},
};

struct Argument {
  unsigned number;
  uint32_t mask = 0xffffffff;
};
constexpr Argument kType = {1, 0xf};  // SOCK_TYPE_MASK; SOCK_CLOEXEC is above

// The numbers of the arguments that the words in parentheses stand for.
const std::map<std::string, std::vector<Argument>> kArguments = {
    {"fcntl", {{1}}},         {"getsockopt", {{1}, {2}}},   {"ioctl", {{1}}},
    {"prctl", {{0}}},         {"seccomp", {{0}}},           {"setsockopt", {{1}, {2}}},
    {"socket", {{0}, kType}}, {"socketpair", {{0}, kType}},
};

struct Rule {
  int call;
  std::vector<scmp_arg_cmp> conditions;
};

std::optional<Rule> RuleOf(const std::string& text) {
  const size_t open = text.find('(');
  const std::string name = text.substr(0, open);
  Rule rule = {seccomp_syscall_resolve_name(name.c_str()), {}};
  if (rule.call == __NR_SCMP_ERROR) return std::nullopt;
  const auto known = kArguments.find(name);
  if (known == kArguments.end() || open == std::string::npos) {
    // Without its conditions such a call would be allowed with any arguments.
    return known == kArguments.end() && open == std::string::npos ? std::optional(rule)
                                                                  : std::nullopt;
  }
  std::istringstream words(text.substr(open + 1, text.size() - open - 2));
  for (const Argument argument : known->second) {
    std::string word;
    std::getline(words >> std::ws, word, ',');
    const auto constant = kConstants.find(word);
    if (constant == kConstants.end()) return std::nullopt;
    rule.conditions.push_back(client::Masked(argument.number, argument.mask, constant->second));
  }
  return rule;
}

int Export(const Calls& allowed, uint32_t otherwise, int file) {
  const client::Filter filter(seccomp_init(otherwise), seccomp_release);
  int result = seccomp_attr_set(filter.get(), SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS);
  for (const std::string& text : allowed) {
    const auto rule = RuleOf(text);
    if (!rule) {
      fprintf(stderr, "%s: no system call, or not with these arguments; see under_filter.cc\n",
              text.c_str());
      return kNotReady;
    }
    if (result != 0) break;
    result = seccomp_rule_add_array(filter.get(), SCMP_ACT_ALLOW, rule->call,
                                    static_cast<unsigned>(rule->conditions.size()),
                                    rule->conditions.data());
  }
  if (result == 0) result = seccomp_export_bpf(filter.get(), file);
  return result == 0 ? 0 : kNotReady;
}

int WaitFor(pid_t child) {
  int status = 0;
  while (waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  return status;
}

using Program = std::vector<sock_filter>;

// Compiles the filter by libseccomp, in a process of its own: libseccomp asks the kernel only once
// in a process what it can do, and it has to ask in tlsbroker_attach(), under the filter.
Program Compile(const Calls& allowed, uint32_t otherwise) {
  const UniqueFd file(memfd_create("filter", MFD_CLOEXEC));
  const pid_t child = fork();
  if (child == 0) _exit(Export(allowed, otherwise, file.get()));
  if (child < 0 || WaitFor(child) != 0) return {};
  Program program(static_cast<size_t>(lseek(file.get(), 0, SEEK_END)) / sizeof(sock_filter));
  const auto size = static_cast<ssize_t>(program.size() * sizeof(sock_filter));
  return pread(file.get(), program.data(), static_cast<size_t>(size), 0) == size ? program
                                                                                 : Program();
}

// ---- The child

// The filter holds only for the calling thread: other threads play the broker and the peer.
void Load(const Program& program) {
  const sock_fprog filter = {static_cast<unsigned short>(program.size()),
                             const_cast<sock_filter*>(program.data())};
  Require(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0, "PR_SET_NO_NEW_PRIVS");
  Require(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &filter) == 0, "seccomp");
}

struct Filtered {
  const Program& program;
  const Act& act;

  [[noreturn]] static void* Run(void* self) {
    const auto& [program, act] = *static_cast<const Filtered*>(self);
    Load(program);
    _exit(act() ? 0 : kFailed);
  }
};

[[noreturn]] void BeChild(const Program& program, const Operation& operation) {
  signal(SIGPIPE, SIG_IGN);
  alarm(kTimeLimit);
  const Act act = operation.prepare();
  Filtered filtered = {program, act};
  if (!operation.own_thread) Filtered::Run(&filtered);
  pthread_t thread;
  Require(pthread_create(&thread, nullptr, Filtered::Run, &filtered) == 0, "pthread_create");
  for (;;) pause();
}

int StatusOf(const Program& program, const Operation& operation) {
  const pid_t parent = getpid();
  const pid_t child = fork();
  if (child == 0) {
    DieWith(parent);
    BeChild(program, operation);
  }
  return WaitFor(child);
}

volatile int* g_refused = nullptr;

}  // namespace

void Require(bool condition, const char* what) {
  if (condition) return;
  fprintf(stderr, "preparing: %s: %s\n", what, strerror(errno));
  _exit(kNotReady);
}

void DieWith(pid_t parent) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (getppid() != parent) _exit(0);
}

Ending RunUnder(const Calls& allowed, const Operation& operation) {
  const Program program = Compile(allowed, SCMP_ACT_KILL_PROCESS);
  if (program.empty()) return {.description = "the filter could not be made"};
  const int status = StatusOf(program, operation);
  if (WIFEXITED(status)) {
    switch (WEXITSTATUS(status)) {
      case 0:
        return {.succeeded = true};
      case kFailed:
        return {.description = "it ran, with another result"};
      default:
        return {.description = "it could not be prepared"};
    }
  }
  if (WTERMSIG(status) != SIGSYS) {
    return {.description = "it was killed by SIG" + std::string(sigabbrev_np(WTERMSIG(status)))};
  }
  return {.killed = true, .description = "it was killed by the filter"};
}

// The filter sends a signal instead of killing the process.
std::string RefusedCall(const Calls& allowed, const Operation& operation) {
  void* shared =
      mmap(nullptr, sizeof(int), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (shared == MAP_FAILED) return "?";
  g_refused = static_cast<int*>(shared);
  *g_refused = -1;
  struct sigaction action {};
  action.sa_flags = SA_SIGINFO;
  action.sa_sigaction = [](int, siginfo_t* info, void*) {
    *g_refused = info->si_syscall;
    _exit(kFailed);
  };
  struct sigaction before;
  sigaction(SIGSYS, &action, &before);
  (void)StatusOf(Compile(allowed, SCMP_ACT_TRAP), operation);
  sigaction(SIGSYS, &before, nullptr);
  char* name = seccomp_syscall_resolve_num_arch(SCMP_ARCH_NATIVE, *g_refused);
  std::string result = name == nullptr ? "?" : name;
  free(name);
  munmap(shared, sizeof(int));
  return result;
}

}  // namespace tlsbroker
