// SPDX-License-Identifier: Apache-2.0
#include "broker/supervisor/elsewhere.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <functional>
#include <map>
#include <span>

#include "broker/supervisor/signals_blocked.h"

namespace tlsbroker::supervisor {
namespace {

constexpr size_t kMost = 8;  // descriptors of one errand
constexpr std::chrono::seconds kStuck{2};

struct ErrandProcess {
  pid_t pid;
  std::string service;
  Clock::time_point started;
};

std::vector<ErrandProcess>& Processes() {
  static std::vector<ErrandProcess> processes;
  return processes;
}

// Counts only processes that hang, not those that are just about to end: a reload may start many in
// a row.
bool MayHaveAnother(std::string_view service) {
  ReapErrands();
  return StuckErrands(service, Clock::now()) < kMaxErrands;
}

// Like fork(2), but the child's end sends no SIGCHLD: only this file waits for the child. All
// signals are blocked in the child (SignalsBlocked), so that no handler of ours runs there, and
// only SIGKILL ends it.
pid_t Fork() {
  return static_cast<pid_t>(syscall(SYS_clone, 0UL, nullptr, nullptr, nullptr, nullptr));
}

// In the child: `fds` become 0, 1 and so on, and all others are closed at once.
void KeepOnly(std::span<const int> fds) {
  std::array<int, kMost + 1> moved{};
  for (size_t i = 0; i < fds.size(); ++i) moved[i] = fcntl(fds[i], F_DUPFD, kMost + 1);
  for (size_t i = 0; i < fds.size(); ++i) (void)dup2(moved[i], static_cast<int>(i));
  (void)close_range(static_cast<unsigned>(fds.size()), ~0U, 0);
}

// Does `what` if there is something to do, sends the result over `supervisor`, and waits until the
// supervisor has closed its end of that socket, and so its copies of the descriptors. Then it ends,
// which closes the descriptors last.
[[noreturn]] void Run(std::span<const int> fds, int supervisor, Errand what, int argument) {
  std::array<int, kMost + 1> kept{};
  kept[0] = supervisor;
  std::ranges::copy(fds, kept.begin() + 1);
  KeepOnly(std::span(kept).first(fds.size() + 1));
  char byte = 0;
  if (what != nullptr) {
    byte = what(1, argument) ? 1 : 0;
    (void)!write(0, &byte, 1);
  }
  (void)!read(0, &byte, 1);
  _exit(0);
}

// The result of an errand; false if it does not come in time. A service whose errand was late is
// not waited for in the next kErrandPause.
bool Await(int errand, const std::string& service) {
  static std::map<std::string, Clock::time_point, std::less<>> impatient_until;
  const Clock::time_point now = Clock::now();
  std::erase_if(impatient_until, [now](const auto& entry) { return entry.second < now; });
  const bool patient = !impatient_until.contains(service);
  pollfd done{errand, POLLIN, 0};
  int ready;
  do {
    ready = poll(&done, 1, patient ? static_cast<int>(kErrandPatience.count()) : 0);
  } while (ready < 0 && errno == EINTR);
  if (ready != 1) {
    impatient_until.try_emplace(service, now + kErrandPause);
    return false;
  }
  char byte = 0;
  return read(errand, &byte, 1) == 1 && byte == 1;
}

// The caller closes `fds` after this has returned. When the caller then closes the descriptor that
// this returns, the process closes the last copies of `fds`. Returns no descriptor if no process
// was started.
UniqueFd StartErrand(std::span<const int> fds, Errand what, int argument,
                     const std::string& service) {
  int ends[2];
  if (fds.size() > kMost || !MayHaveAnother(service) ||
      socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0)
    return {};
  UniqueFd ours(ends[0]);
  const UniqueFd theirs(ends[1]);
  const SignalsBlocked blocked;
  const pid_t pid = Fork();
  if (pid == 0) Run(fds, theirs.get(), what, argument);
  if (pid < 0) return {};
  Processes().push_back({pid, service, Clock::now()});
  return ours;
}

}  // namespace

void CloseElsewhere(std::vector<UniqueFd> descriptors, const std::string& service) {
  std::erase_if(descriptors, [](const UniqueFd& fd) { return !fd.valid(); });
  if (descriptors.empty()) return;
  std::vector<int> fds;
  for (const UniqueFd& fd : descriptors) fds.push_back(fd.get());
  const UniqueFd errand = StartErrand(fds, nullptr, 0, service);
  if (errand) return descriptors.clear();
  for (UniqueFd& fd : descriptors) (void)fd.Release();
}

bool DoElsewhere(int fd, Errand what, int argument, const std::string& service) {
  const UniqueFd errand = StartErrand({&fd, 1}, what, argument, service);
  return errand && Await(errand.get(), service);
}

bool DoAndCloseElsewhere(UniqueFd fd, Errand what, int argument, const std::string& service) {
  const int number = fd.get();
  const UniqueFd errand = StartErrand({&number, 1}, what, argument, service);
  if (!errand) {
    (void)fd.Release();
    return false;
  }
  const bool done = Await(errand.get(), service);
  fd.Reset();
  return done;
}

void ReapErrands() {
  std::erase_if(Processes(), [](const ErrandProcess& process) {
    return waitpid(process.pid, nullptr, __WCLONE | WNOHANG) != 0;
  });
}

size_t StuckErrands(std::string_view service, Clock::time_point now) {
  return static_cast<size_t>(std::ranges::count_if(Processes(), [&](const ErrandProcess& process) {
    return process.service == service && now - process.started > kStuck;
  }));
}

}  // namespace tlsbroker::supervisor
