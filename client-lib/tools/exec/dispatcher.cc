// SPDX-License-Identifier: Apache-2.0
#include "client-lib/tools/exec/dispatcher.h"

#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include <bit>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <utility>

#include "broker/support/log.h"
#include "client-lib/tools/command.h"
#include "client-lib/tools/exec/environment.h"
#include "client-lib/tools/exec/session.h"

namespace tlsbroker::tools {
namespace {

sigset_t HandledSignals() {
  sigset_t signals;
  sigemptyset(&signals);
  for (const int signal : {SIGCHLD, SIGTERM, SIGINT}) sigaddset(&signals, signal);
  return signals;
}

// Whoever has one address of IPv6 has a whole /64, as in the broker's own limits (admission.h).
std::string SourceOf(const Connection& connection) {
  sockaddr_storage address{};
  const sockaddr* peer = tlsbroker_conn_peer(connection.get());
  if (peer->sa_family != AF_INET6) return AddressText(peer);
  std::memcpy(&address, peer, sizeof(sockaddr_in6));
  auto* ipv6 = reinterpret_cast<sockaddr_in6*>(&address);
  std::memset(&ipv6->sin6_addr.s6_addr[8], 0, 8);
  return AddressText(reinterpret_cast<const sockaddr*>(&address)) + "/64";
}

}  // namespace

int Dispatcher::Attach() {
  const char* service = options_.service.empty() ? nullptr : options_.service.c_str();
  return options_.socket.empty() ? Queue::FromEnvironment(service, queue_)
                                 : Queue::Attach(options_.socket.c_str(), queue_);
}

int Dispatcher::Run() {
  if (const int error = filter_.Make(); error < 0) {
    log::Error("no filter for connections" + log::Field("why", strerror(-error)));
    return kExitTemporary;
  }
  signal(SIGPIPE, SIG_IGN);
  const sigset_t signals = HandledSignals();
  sigprocmask(SIG_BLOCK, &signals, nullptr);
  signals_.Reset(signalfd(-1, &signals, SFD_CLOEXEC | SFD_NONBLOCK));
  const int error = signals_ ? Attach() : -errno;
  if (error < 0) {
    const char* advice = options_.socket.empty()
                             ? "; started by hand it needs --socket /run/tlsbroker/SERVICE.sock"
                             : "";
    log::Error("no queue of connections: " + std::string(ResultText(error)) + advice);
    return options_.socket.empty() || error == -EACCES ? kExitPermanent : kExitTemporary;
  }
  while (!ending_ || !sessions_.empty()) {
    heartbeat_.Beat();
    Wait();
    TakeSignals();
    Reap();
    if (MayStart()) TakeConnections();
  }
  return kExitOk;
}

void Dispatcher::Wait() {
  pollfd entries[] = {{signals_.get(), POLLIN, 0}, {MayStart() ? queue_.fd() : -1, POLLIN, 0}};
  (void)poll(entries, 2, heartbeat_.TimeLeft());
}

void Dispatcher::TakeConnections() {
  while (MayStart()) {
    heartbeat_.Beat();  // hundreds may wait, and each is a process to be forked
    Connection connection;
    const int error = queue_.Accept(connection, TLSBROKER_DONTWAIT);
    if (error == 0) {
      Serve(std::move(connection));
      continue;
    }
    if (error == TLSBROKER_E_HANDOFF) {
      log::Error(std::string(ResultText(error)));
      continue;
    }
    if (error == TLSBROKER_E_GONE) {
      ending_ = true;  // the programs that run may finish
    } else if (error != -EAGAIN) {
      log::Error("taking a connection: " + std::string(ResultText(error)));
      (void)poll(nullptr, 0, 100);  // no free descriptor or memory: do not try at full speed
    }
    return;
  }
}

void Dispatcher::Serve(Connection connection) {
  const std::string source = SourceOf(connection);
  if (options_.max_per_source > 0 && by_source_[source] >= options_.max_per_source) {
    // Only the 1st, 2nd, 4th, 8th... is logged: a stranger decides how many there are.
    if (std::has_single_bit(++refused_)) {
      log::Warning("refused a connection" + log::Field("peer", source) +
                   log::Field("why", "max-per-source") +
                   log::Field("count", std::to_string(refused_)));
    }
    return;
  }
  Task task(std::move(connection), options_);
  const pid_t dispatcher = getpid();
  const pid_t pid = fork();
  if (pid == 0) {
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    if (getppid() != dispatcher) _exit(kExitTemporary);
    queue_ = Queue();
    signals_.Reset();
    heartbeat_.Forget();
    ServeByProgram(std::move(task), options_, filter_);
    _exit(kExitOk);
  }
  if (pid < 0) {
    log::Error("no process for a connection" + task.name + log::Field("why", strerror(errno)));
    if (by_source_[source] == 0) by_source_.erase(source);
    return;
  }
  // The child has the connection now: this process must not end it.
  task.connection.Forget();
  ++by_source_[source];
  sessions_.emplace(pid, source);
}

void Dispatcher::TakeSignals() {
  signalfd_siginfo info;
  while (read(signals_.get(), &info, sizeof(info)) == sizeof(info)) {
    if (info.ssi_signo == SIGCHLD) continue;
    ending_ = true;
    const bool again = std::exchange(told_to_end_, true);
    if (again || info.ssi_signo == SIGINT) EndSessions();
  }
}

void Dispatcher::Reap() {
  int status = 0;
  for (pid_t pid; (pid = waitpid(-1, &status, WNOHANG)) > 0;) {
    const auto session = sessions_.find(pid);
    if (session == sessions_.end()) continue;
    if (WIFSIGNALED(status)) {  // by its filter, say: then it could not log that itself
      log::Error("the process of a connection was killed" + log::Field("peer", session->second) +
                 log::Field("signal", std::to_string(WTERMSIG(status))));
    }
    const auto source = by_source_.find(session->second);
    if (--source->second == 0) by_source_.erase(source);
    sessions_.erase(session);
  }
}

void Dispatcher::EndSessions() {
  for (const auto& session : sessions_) kill(session.first, SIGTERM);
}

int RunExec(std::span<char* const> arguments) {
  const auto parsed = ParseExecOptions(arguments);
  if (const int* status = std::get_if<int>(&parsed)) return *status;
  log::Init("exec", log::InheritedLevel());
  return Dispatcher(std::get<ExecOptions>(parsed)).Run();
}

}  // namespace tlsbroker::tools
