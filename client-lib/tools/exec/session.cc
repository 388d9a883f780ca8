// SPDX-License-Identifier: Apache-2.0
#include "client-lib/tools/exec/session.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include "broker/support/log.h"
#include "client-lib/tools/exec/environment.h"
#include "client-lib/tools/exec/log_lines.h"
#include "client-lib/tools/exec/program.h"
#include "client-lib/tools/pipe.h"
#include "protocol/unique_fd.h"

namespace tlsbroker::tools {
namespace {

using Clock = std::chrono::steady_clock;

constexpr size_t kPiece = 1 << 20;  // as much as a pipe may ever hold

std::string StatusText(int status) {
  if (WIFSIGNALED(status)) return log::Field("signal", std::to_string(WTERMSIG(status)));
  return log::Field("exit", std::to_string(WEXITSTATUS(status)));
}

class Session {
 public:
  Session(Task task, const ExecOptions& options, const SessionFilter& filter)
      : connection_(std::move(task.connection)),
        options_(options),
        filter_(filter),
        name_(std::move(task.name)),
        environment_(std::move(task.environment)),
        started_(task.started) {}

  void Run();

 private:
  enum class Incoming { kOpen, kDiscarded, kEnded };

  bool Start();
  void Move();
  bool MoveIn();
  bool Discard();
  bool MoveOut();
  void EnlargeOutput();
  void EndOutput();
  void OutputFailed(const std::string& why);
  bool IsSilent() const;
  void Wait();
  void TakeSignals();
  void KeepTime();
  int MillisecondsLeft() const;
  bool Finished() const;
  void Finish();

  void ClientGone(const std::string& why);
  void Terminate(const std::string& why);
  bool Watch(int fd, uint32_t events);
  bool WatchBridge();
  void Note(const epoll_event& event);

  Connection connection_;
  const ExecOptions& options_;
  const SessionFilter& filter_;
  const std::string name_;
  std::vector<std::string> environment_;
  Program program_;
  LogLines errors_;
  UniqueFd epoll_, signals_;

  Incoming incoming_ = Incoming::kOpen;
  bool output_enlarged_ = false;
  bool output_ended_ = false;
  bool end_waits_ = false;  // there was no room for the end of the output
  // An event has come since the last attempt, which found nothing to do. For a new descriptor epoll
  // first reports what is there already.
  bool try_in_ = false, try_out_ = false, try_errors_ = false;
  bool ended_ = false;   // the program has; exit_status_ says how
  bool killed_ = false;  // SIGKILL was sent
  std::optional<int> exit_status_;
  std::string failure_;         // why the connection cannot end cleanly, whatever the program says
  std::string output_failure_;  // why the client gets no more; the program may go on reading
  bool look_again_ = false;     // whether the client still says something, since then
  bool cut_ = false;            // reading has failed
  uint64_t bytes_in_ = 0;
  uint64_t bytes_out_ = 0;

  const Clock::time_point started_;
  Clock::time_point last_byte_ = started_;
  Clock::time_point kill_at_ = Clock::time_point::max();
};

bool Session::Watch(int fd, uint32_t events) {
  epoll_event event{};
  event.events = events | EPOLLET;
  event.data.fd = fd;
  return epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &event) == 0;
}

bool Session::WatchBridge() {
  if (!program_.bridge) return true;
  return std::ranges::all_of(program_.bridge->descriptors(),
                             [this](int fd) { return Watch(fd, EPOLLIN | EPOLLOUT); });
}

// All events are edge-triggered: Linux 6.1 shows a connection as readable while only a part of a
// record is there, so that a level-triggered loop would not sleep.
bool Session::Start() {
  connection_.SetNonblocking(true);
  const int error =
      Program::Start(options_.program, std::move(environment_), options_.style, program_);
  if (error < 0) {
    log::Error("the program cannot be started" + name_ + log::Field("why", strerror(-error)));
    return false;
  }
  sigset_t term;
  sigemptyset(&term);
  sigaddset(&term, SIGTERM);
  signals_.Reset(signalfd(-1, &term, SFD_CLOEXEC | SFD_NONBLOCK));
  epoll_.Reset(epoll_create1(EPOLL_CLOEXEC));
  const bool watching =
      epoll_ && signals_ && Watch(connection_.fd(), EPOLLIN | EPOLLOUT | EPOLLRDHUP) &&
      Watch(program_.input.get(), EPOLLOUT) && Watch(program_.output.get(), EPOLLIN) &&
      Watch(program_.errors.get(), EPOLLIN) && Watch(program_.pidfd(), EPOLLIN) &&
      Watch(signals_.get(), EPOLLIN) && WatchBridge();
  if (!watching) {
    log::Error("the program cannot be watched" + name_ + log::Field("why", strerror(errno)));
    program_.Reap();
    return false;
  }
  if (const int refused = filter_.Load(program_.pid()); refused < 0) {
    log::Error("no filter for a connection" + name_ + log::Field("why", strerror(-refused)));
    program_.Reap();
    return false;
  }
  return true;
}

void Session::Run() {
  if (!Start()) return;
  log::Info("started" + name_ + log::Field("pid", std::to_string(program_.pid())) +
            log::Field("peer", connection_.peer()));
  for (;;) {
    Move();
    if (ended_ && !exit_status_ && (exit_status_ = program_.Ended())) {
      if (*exit_status_ != 0) kill_at_ = std::min(kill_at_, Clock::now() + options_.grace);
      try_out_ = try_errors_ = true;
      Move();  // what the program wrote last
    }
    KeepTime();
    if (Finished()) break;
    Wait();
  }
  Finish();
}

void Session::Move() {
  do {
    const bool in = try_in_ && MoveIn();
    const bool between = program_.bridge && program_.bridge->Move();
    const bool out = try_out_ && MoveOut();
    try_errors_ = try_errors_ && errors_.Copy(program_.errors, name_);
    // Where the bridge has moved bytes there is now room on one side and data on the other.
    try_in_ = in || between || std::exchange(look_again_, false);
    try_out_ = out || between;
    if (in || out) last_byte_ = Clock::now();
    if (in || out || try_errors_) KeepTime();
  } while ((try_in_ || try_out_ || try_errors_) && failure_.empty());
}

bool Session::MoveIn() {
  if (incoming_ == Incoming::kEnded || !failure_.empty()) return false;
  if (incoming_ == Incoming::kDiscarded) return Discard();
  const ssize_t n = connection_.SpliceRead(program_.input.get(), kPiece);
  if (n > 0) {
    bytes_in_ += static_cast<uint64_t>(n);
    return true;
  }
  if (n == -EAGAIN) {
    if (IsSilent()) ClientGone(output_failure_);
    return false;
  }
  if (n == -EPIPE) {  // the program wants no more input; the client may not know that
    incoming_ = Incoming::kDiscarded;
  } else if (n == 0) {
    incoming_ = Incoming::kEnded;
  } else {
    cut_ = true;
    ClientGone(std::string(ResultText(n)));
    return false;
  }
  program_.input.Reset();
  return true;
}

// The client takes nothing, and does not say more than the program has been given. After a reset
// there is always an end or an error to be read, so this is another failure.
bool Session::IsSilent() const {
  int waiting = 0;
  return !output_failure_.empty() && ioctl(program_.input.get(), FIONREAD, &waiting) == 0 &&
         waiting == 0;
}

bool Session::Discard() {
  static std::array<char, 16 * 1024> nowhere;
  const ssize_t n = connection_.Read(nowhere.data(), nowhere.size());
  if (n == -EAGAIN) return false;
  if (n == 0) incoming_ = Incoming::kEnded;
  if (n < 0) {
    cut_ = true;
    ClientGone(std::string(ResultText(n)));
  }
  return n > 0;
}

bool Session::MoveOut() {
  if (end_waits_) EndOutput();
  if (output_ended_ || !failure_.empty()) return false;
  const ssize_t n = connection_.SpliceWrite(program_.output.get(), kPiece);
  if (n > 0) {
    bytes_out_ += static_cast<uint64_t>(n);
    if (n >= kPipeSize && !output_enlarged_) EnlargeOutput();
    return true;
  }
  if (n == 0) {
    output_ended_ = true;
    if (program_.bridge && program_.bridge->half_closed()) EndOutput();
  } else if (n != -EAGAIN) {
    OutputFailed(std::string(ResultText(n)));
  }
  return false;
}

// What the client has said before is still to be read, and if it ends with an end the program may
// finish its work: many clients end and close without having read all, and then their kernel sends
// a reset. So the program only learns that nobody reads its output, by EPIPE, when it goes on
// writing.
void Session::OutputFailed(const std::string& why) {
  if (exit_status_ && output_ended_) return;
  output_failure_ = why;
  output_ended_ = true;
  program_.output.Reset();
  log::Info("the client takes no more" + name_ + log::Field("why", why));
  look_again_ = true;
}

// If the user's pipes have reached their limit (pipe(7)) the pipe keeps its size.
void Session::EnlargeOutput() {
  (void)fcntl(program_.output.get(), F_SETPIPE_SZ, kLargerPipeSize);
  output_enlarged_ = true;
}

// The program has ended its output on purpose: the client gets an end, though the program goes on.
void Session::EndOutput() {
  const int result = connection_.EndWrite();
  end_waits_ = result == -EAGAIN;
  if (result < 0 && !end_waits_) OutputFailed(std::string(ResultText(result)));
}

// The program must not take input that was cut off for the whole: it gets SIGTERM, and no end of
// its input before.
void Session::ClientGone(const std::string& why) {
  if (exit_status_ && output_ended_) return;
  log::Warning("the client is gone" + name_ + log::Field("why", why));
  Terminate(why);
}

void Session::Terminate(const std::string& why) {
  if (!failure_.empty()) return;
  failure_ = why;
  program_.Signal(SIGTERM);
  program_.Signal(SIGCONT);
  kill_at_ = Clock::now() + options_.grace;
  program_.output.Reset();  // what the program still writes is lost
}

void Session::KeepTime() {
  const Clock::time_point now = Clock::now();
  if (now >= kill_at_) {
    program_.Signal(SIGKILL);
    killed_ = true;
    kill_at_ = Clock::time_point::max();
  }
  if (!failure_.empty() || killed_) return;
  if (options_.idle_timeout.count() > 0 && now >= last_byte_ + options_.idle_timeout) {
    log::Warning("nothing was sent for too long" + name_);
    Terminate("idle");
  } else if (options_.lifetime.count() > 0 && now >= started_ + options_.lifetime) {
    log::Warning("the connection is too old" + name_);
    Terminate("lifetime");
  }
}

int Session::MillisecondsLeft() const {
  Clock::time_point next = kill_at_;
  if (failure_.empty() && !killed_) {
    if (options_.idle_timeout.count() > 0)
      next = std::min(next, last_byte_ + options_.idle_timeout);
    if (options_.lifetime.count() > 0) next = std::min(next, started_ + options_.lifetime);
  }
  if (next == Clock::time_point::max()) return -1;
  const auto left = std::chrono::ceil<std::chrono::milliseconds>(next - Clock::now()).count();
  return static_cast<int>(std::clamp<int64_t>(left, 0, 86'400'000));
}

void Session::Wait() {
  std::array<epoll_event, 8> events;
  const int n = epoll_wait(epoll_.get(), events.data(), events.size(), MillisecondsLeft());
  for (int i = 0; i < n; ++i) Note(events[static_cast<size_t>(i)]);
  try_out_ = try_out_ || end_waits_;
}

void Session::Note(const epoll_event& event) {
  constexpr uint32_t kBroken = EPOLLERR | EPOLLHUP;
  const int fd = event.data.fd;
  if (fd == connection_.fd()) {
    try_in_ = try_in_ || (event.events & (EPOLLIN | EPOLLRDHUP | kBroken)) != 0;
    try_out_ = try_out_ || (event.events & (EPOLLOUT | kBroken)) != 0;
  } else if (fd == program_.input.get()) {
    try_in_ = true;
  } else if (fd == program_.output.get()) {
    try_out_ = true;
  } else if (fd == program_.errors.get()) {
    try_errors_ = true;
  } else if (fd == program_.pidfd()) {
    ended_ = true;
  } else if (fd == signals_.get()) {
    TakeSignals();
  } else {
    try_in_ = try_out_ = true;  // a descriptor of the bridge
  }
}

void Session::TakeSignals() {
  signalfd_siginfo info;
  while (read(signals_.get(), &info, sizeof(info)) == sizeof(info)) Terminate("told to end");
}

// A program that has ended may have left other processes behind that still write its output. We
// wait for these; but after a bad exit status only for the grace time, and not when the connection
// has failed.
bool Session::Finished() const {
  return exit_status_ && (output_ended_ || killed_ || !failure_.empty());
}

void Session::Finish() {
  errors_.Copy(program_.errors, name_);
  errors_.Flush(name_);
  const bool good = *exit_status_ == 0 && failure_.empty() && output_failure_.empty();
  std::string line = "ended" + name_ + StatusText(*exit_status_) +
                     log::Field("in", std::to_string(bytes_in_)) +
                     log::Field("out", std::to_string(bytes_out_));
  if (good) {
    const int result = connection_.Close();
    if (result < 0) line += log::Field("close", ResultText(result));
  } else {
    const std::string& why = failure_.empty() ? output_failure_ : failure_;
    if (!why.empty()) line += log::Field("why", why);
    // If reading has failed, the client has got its alert, and Close() only waits for it to close.
    cut_ ? (void)connection_.Close() : connection_.Abort();
  }
  good ? log::Info(line) : log::Warning(line);
  program_.Reap();
}

}  // namespace

Task::Task(Connection taken, const ExecOptions& options)
    : connection(std::move(taken)),
      name(log::Field("conn", IdText(connection.get()))),
      environment(EnvironmentOf(connection.get())),
      started(Clock::now()) {
  if (options.style == Style::kSystemd) {
    environment.insert(environment.end(), {"LISTEN_FDS=1", "LISTEN_FDNAMES=connection"});
  }
}

void ServeByProgram(Task task, const ExecOptions& options, const SessionFilter& filter) {
  signal(SIGPIPE, SIG_IGN);
  Session(std::move(task), options, filter).Run();
}

}  // namespace tlsbroker::tools
