// SPDX-License-Identifier: Apache-2.0
#include "client-lib/tools/run/runner.h"

#include <signal.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/wait.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdlib>
#include <string_view>
#include <thread>
#include <utility>

#include "broker/support/log.h"
#include "client-lib/tools/command.h"
#include "client-lib/tools/exec/environment.h"
#include "client-lib/tools/run/token.h"

namespace tlsbroker::tools {
namespace {

// How long the last bytes of a daemon that has ended may take.
constexpr std::chrono::seconds kEndTime{5};
// From the supervisor's second SIGTERM to the daemon's SIGKILL: less than to our own, behind which
// nobody would know the daemon's processes.
constexpr std::chrono::seconds kUrgentTime{3};
// From SIGTERM to SIGKILL for the processes that the daemon's first one has left.
constexpr std::chrono::seconds kGroupTime{3};
constexpr std::chrono::milliseconds kMemoryPause{100};
constexpr size_t kDescriptorsPerBridge = 6;
constexpr size_t kSpareDescriptors = 64;

// Signals that are passed on to the daemon. Signals of a terminal have reached the daemon already.
constexpr int kForwarded[] = {SIGHUP, SIGINT, SIGTERM, SIGQUIT, SIGUSR1, SIGUSR2, SIGWINCH};

sigset_t HandledSignals() {
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGCHLD);
  for (const int signal : kForwarded) sigaddset(&signals, signal);
  return signals;
}

size_t RaiseDescriptorLimit() {
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return 1024;
  limit.rlim_cur = limit.rlim_max;
  setrlimit(RLIMIT_NOFILE, &limit);
  return limit.rlim_cur;
}

size_t MaxBridges(size_t wanted) {
  const size_t limit = std::max(RaiseDescriptorLimit(), kSpareDescriptors + kDescriptorsPerBridge);
  return std::min(wanted, (limit - kSpareDescriptors) / kDescriptorsPerBridge);
}

// As far as it is known before the queue is there: "web" of the descriptor tlsbroker.web that the
// broker passed, or of /run/tlsbroker/web.sock.
std::string ServiceOf(const RunOptions& options) {
  constexpr std::string_view kPrefix = "tlsbroker.", kSuffix = ".sock";
  if (!options.service.empty()) return options.service;
  if (!options.socket.empty()) {
    std::string name = options.socket.substr(options.socket.rfind('/') + 1);
    if (name.ends_with(kSuffix)) name.resize(name.size() - kSuffix.size());
    return name;
  }
  const char* names = getenv("LISTEN_FDNAMES");
  std::string_view name = names == nullptr ? "" : names;
  name = name.substr(0, name.find(':'));
  return std::string(name.starts_with(kPrefix) ? name.substr(kPrefix.size()) : "");
}

}  // namespace

int Runner::Attach() {
  const char* service = options_.service.empty() ? nullptr : options_.service.c_str();
  if (const std::string name = ServiceOf(options_); !name.empty())
    service_ = log::Field("service", name);
  return FromEnvironment() ? Queue::FromEnvironment(service, queue_)
                           : Queue::Attach(options_.socket.c_str(), queue_);
}

int Runner::Start() {
  const sigset_t signals = HandledSignals();
  sigprocmask(SIG_BLOCK, &signals, nullptr);
  signals_.Reset(signalfd(-1, &signals, SFD_CLOEXEC | SFD_NONBLOCK));
  epoll_.Reset(epoll_create1(EPOLL_CLOEXEC));
  // Attach before the daemon is started: attaching gives up the keys of connections for both.
  if (const int error = signals_ && epoll_ ? Attach() : -errno; error < 0) {
    log::Error("no queue of connections: " + std::string(ResultText(error)) +
               (FromEnvironment()
                    ? "; started by hand it needs --socket /run/tlsbroker/SERVICE.sock"
                    : ""));
    return FromEnvironment() || error == -EACCES ? kExitPermanent : kExitTemporary;
  }
  UniqueFd traps;
  const auto group = FromEnvironment() ? Daemon::Group::kOwn : Daemon::Group::kRunners;
  if (const int error = Daemon::Start(options_.program, group, daemon_, traps); error < 0) {
    log::Error("the daemon cannot be started: " + std::string(strerror(-error)) + service_);
    return kExitPermanent;
  }
  signal(SIGPIPE, SIG_IGN);  // not before the daemon has inherited its own
  max_bridges_ = MaxBridges(options_.max_connections);
  traps_ = std::make_unique<Traps>(std::move(traps));
  if (!Watch(traps_->fd(), EPOLLIN, kTraps) || !Watch(signals_.get(), EPOLLIN, kSignals)) {
    log::Error("the runner cannot watch its descriptors: " + std::string(strerror(errno)) +
               service_);
    daemon_.Signal(SIGKILL);
    return kExitTemporary;
  }
  log::Info("started" + service_ + log::Field("program", options_.program.front()) +
            log::Field("pid", std::to_string(daemon_.pid())));
  return kExitOk;
}

int Runner::Run() {
  if (const int status = Start(); status != kExitOk) return status;
  while (!Finished()) {
    KnockForWaiting();
    WatchQueue();
    heartbeat_.Beat();
    Wait();
    KeepTime();
  }
  for (auto& [id, served] : bridges_) served.bridge.Cut("daemon: it has ended");
  daemon_.KillAndWait();
  return ExitStatus();
}

bool Runner::Finished() const {
  return exit_status_ && group_over_ && (bridges_.empty() || Clock::now() >= end_at_);
}

int Runner::ExitStatus() const {
  return WIFSIGNALED(*exit_status_) ? 128 + WTERMSIG(*exit_status_) : WEXITSTATUS(*exit_status_);
}

bool Runner::Watch(int fd, uint32_t events, uint64_t token) {
  epoll_event event{};
  event.events = events;
  event.data.u64 = token;
  return epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &event) == 0;
}

void Runner::WatchQueue() {
  const bool wanted = queue_ && HasRoom();
  if (wanted == queue_watched_) return;
  if (wanted) {
    queue_watched_ = Watch(queue_.fd(), EPOLLIN, kQueue);
  } else {
    if (queue_) epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, queue_.fd(), nullptr);
    queue_watched_ = false;
  }
}

void Runner::Wait() {
  int timeout = -1;
  if (const Clock::time_point next = NextTime(); next != Clock::time_point::max()) {
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(next - Clock::now()).count();
    timeout = static_cast<int>(std::clamp<int64_t>(left, 0, 86'400'000));
  }
  std::array<epoll_event, 64> events;
  const int n = epoll_wait(epoll_.get(), events.data(), events.size(), timeout);
  for (int i = 0; i < n; ++i) {
    heartbeat_.Beat();
    const epoll_event& event = events[static_cast<size_t>(i)];
    Dispatch(event.data.u64, event.events);
  }
}

void Runner::Dispatch(uint64_t token, uint32_t events) {
  const uint64_t id = IdOf(token);
  switch (KindOf(token)) {
    case kSignals:
      return TakeSignals();
    case kTraps:
      if ((events & EPOLLIN) != 0) return TakeCall();
      epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, traps_->fd(), nullptr);
      return;
    case kQueue:
      return TakeConnections();
    case kKnock:
      return KnockEvent(id);
    case kHeld:
      return AnswerHeld(id);
    case kClient:
    case kDaemon:
      return MoveBridge(id);
  }
}

Runner::Clock::time_point Runner::NextTime() const {
  if (!busy_.empty()) return Clock::now();
  Clock::time_point next = heartbeat_.due();
  if (exit_status_) next = std::min(next, end_at_);
  if (!group_over_) next = std::min(next, kill_at_);
  if (!waiting_.empty() && listener_) next = std::min(next, retry_at_);
  if (!held_.empty()) next = std::min(next, sweep_at_);
  for (const auto& [id, served] : bridges_) {
    if (const auto deadline = served.bridge.deadline()) next = std::min(next, *deadline);
  }
  return next;
}

void Runner::KeepTime() {
  const Clock::time_point now = Clock::now();
  std::set<uint64_t> due = std::exchange(busy_, {});
  for (const auto& [id, served] : bridges_) {
    const auto deadline = served.bridge.deadline();
    if (deadline && *deadline <= now) due.insert(id);
  }
  for (const uint64_t id : due) {
    heartbeat_.Beat();
    MoveBridge(id);
  }
  if (!held_.empty() && now >= sweep_at_) SweepHeld();
  if (exit_status_ && !group_over_) group_over_ = daemon_.GroupEnded();
  if (now >= kill_at_ && !group_over_) KillDaemon();
  // With direct connections it is not known here which ones the daemon still has.
  if (queue_ || exit_status_ || serving() || options_.direct) return;
  if (std::exchange(told_to_end_, true)) return;
  log::Notice(
      (finishing_ ? "finished; ending the daemon" : "the broker is gone; ending the daemon") +
      service_);
  daemon_.Signal(SIGTERM);
}

void Runner::KillDaemon() {
  kill_at_ = Clock::time_point::max();
  log::Warning((exit_status_ ? "processes that the daemon has left do not end by SIGTERM, killed"
                             : "the daemon does not end by SIGTERM, killed") +
               service_);
  daemon_.SignalGroup(SIGKILL);
  group_over_ = exit_status_.has_value();
}

bool Runner::HasRoom() const {
  return listener_ && !exit_status_ && knocks_.size() + waiting_.size() < max_knocks_ &&
         knocks_.size() + waiting_.size() + bridges_.size() < max_bridges_;
}

void Runner::TakeConnections() {
  while (queue_ && HasRoom()) {
    heartbeat_.Beat();
    Connection connection;
    const int error = queue_.Accept(connection, TLSBROKER_DONTWAIT);
    if (error == 0) {
      waiting_.push_back(std::move(connection));
      continue;
    }
    if (error == TLSBROKER_E_HANDOFF) {
      log::Error(std::string(ResultText(error)) + service_);
      continue;
    }
    if (error == TLSBROKER_E_GONE) {
      LoseQueue();
    } else if (error != -EAGAIN) {
      log::Error("taking a connection: " + std::string(ResultText(error)) + service_);
      std::this_thread::sleep_for(kMemoryPause);  // no free descriptor or memory
    }
    return;
  }
}

void Runner::LoseQueue() {
  if (queue_watched_) epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, queue_.fd(), nullptr);
  queue_watched_ = false;
  queue_ = Queue();
}

// The supervisor's first SIGTERM asks a worker to finish what it has (PROTOCOL.md section 1.2);
// most daemons would cut their connections, so the daemon gets it when these have ended. Direct
// connections are not seen here. At its end the broker also shuts the queue, and we may have seen
// that before.
bool Runner::FinishFirst() {
  if (!FromEnvironment() || options_.direct || std::exchange(finishing_, true)) return false;
  if (!told_to_end_)
    log::Notice("told to end; the daemon's connections are finished first" + service_);
  LoseQueue();
  return true;
}

// From here on a bridge serves the connection.
void Runner::Serve(Connection connection, UniqueFd end, uint64_t cookie) {
  const uint64_t id = next_id_++;
  std::string name = log::Field("conn", IdText(connection.get())) + service_;
  const auto [served, added] = bridges_.emplace(
      id, Served{Bridge(std::move(connection), std::move(end)), cookie, std::move(name)});
  Bridge& bridge = served->second.bridge;
  constexpr uint32_t kEdges = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET;
  if (!bridge.Open() || !Watch(bridge.client_fd(), kEdges, TokenOf(kClient, id)) ||
      !Watch(bridge.daemon_fd(), kEdges, TokenOf(kDaemon, id))) {
    bridge.Cut("runner: " + std::string(strerror(errno)));
  }
  busy_.insert(id);
}

void Runner::MoveBridge(uint64_t id) {
  const auto served = bridges_.find(id);
  if (served == bridges_.end()) return;
  switch (served->second.bridge.Move()) {
    case Bridge::Progress::kWaiting:
      return;
    case Bridge::Progress::kMore:
      busy_.insert(id);
      return;
    case Bridge::Progress::kOver:
      log::Info("ended" + served->second.name + served->second.bridge.Summary());
      peers_.Retire(served->second.cookie);
      bridges_.erase(served);
  }
}

// The second one says that it is urgent (PROTOCOL.md section 1.2).
void Runner::NoteSigterm() {
  if (std::exchange(got_sigterm_, true) && FromEnvironment()) {
    kill_at_ = std::min(kill_at_, Clock::now() + kUrgentTime);
  }
}

void Runner::TakeSignals() {
  signalfd_siginfo info;
  while (read(signals_.get(), &info, sizeof(info)) == sizeof(info)) {
    if (info.ssi_signo == SIGTERM) NoteSigterm();
    if (info.ssi_signo == SIGCHLD) {
      Reap();
    } else if (info.ssi_signo == SIGTERM && FinishFirst()) {
      continue;
    } else if (info.ssi_code != SI_KERNEL) {
      told_to_end_ = told_to_end_ || info.ssi_signo == SIGTERM || info.ssi_signo == SIGINT ||
                     info.ssi_signo == SIGQUIT;
      daemon_.Signal(static_cast<int>(info.ssi_signo));
    }
  }
}

void Runner::Reap() {
  const auto ended = daemon_.Ended();
  if (!ended) return;
  exit_status_ = ended;
  end_at_ = Clock::now() + kEndTime;
  EndGroup();
  // Nobody will accept these connections; their clients see a cut.
  waiting_.clear();
  knocks_.clear();
  held_.clear();
  const std::string line =
      "the daemon has ended" + service_ + log::Field("exit", std::to_string(ExitStatus()));
  if (told_to_end_ || ExitStatus() != 0) {
    told_to_end_ ? log::Info(line) : log::Warning(line);
  } else {
    log::Warning(line +
                 "; one that goes into the background has to be told to stay in the foreground");
  }
}

// Not before the first process has ended, which knows what its others should do at a SIGTERM: those
// of PostgreSQL and Apache, for two, would cut their connections. A wrapper, such as a shell, may
// leave the very server, which has not heard of the end yet, and perhaps has data to save.
void Runner::EndGroup() {
  daemon_.SignalGroup(SIGTERM);
  kill_at_ = std::min(kill_at_, Clock::now() + kGroupTime);
}

int RunRun(std::span<char* const> arguments) {
  const auto parsed = ParseRunOptions(arguments);
  if (const int* status = std::get_if<int>(&parsed)) return *status;
  log::Init("run", log::InheritedLevel());
  return Runner(std::get<RunOptions>(parsed)).Run();
}

}  // namespace tlsbroker::tools
