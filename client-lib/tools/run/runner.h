// SPDX-License-Identifier: Apache-2.0
// `tlsbroker run`: starts a daemon that listens and accepts by itself, and gives it the TLS
// connections of a service as what it accepts.
//
// For each connection from the service's queue the runner connects to the daemon's own listener
// ("knocks"), so that the daemon wakes up, in whatever call it waits. The daemon's accept(2) is
// trapped: the runner makes it, tells its own knocks from strangers by their addresses, and returns
// the socket with the client's address. A connection of the daemon to itself is none of either: the
// daemon's connect(2) is trapped, too, so that the runner knows its address. Nothing of a client
// moves before that, so another program that listens at the daemon's address gets nothing.

#ifndef TLSBROKER_CLIENT_LIB_TOOLS_RUN_RUNNER_H_
#define TLSBROKER_CLIENT_LIB_TOOLS_RUN_RUNNER_H_

#include <chrono>
#include <cstdint>
#include <deque>
#include <list>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>

#include "client-lib/tools/heartbeat.h"
#include "client-lib/tools/run/address.h"
#include "client-lib/tools/run/bridge.h"
#include "client-lib/tools/run/daemon.h"
#include "client-lib/tools/run/options.h"
#include "client-lib/tools/run/peers.h"
#include "client-lib/tools/run/process.h"
#include "client-lib/tools/run/traps.h"
#include "protocol/unique_fd.h"
#include "tlsbroker/tlsbroker.hpp"

namespace tlsbroker::tools {

class Runner {
 public:
  explicit Runner(const RunOptions& options) : options_(options) {}

  // Runs until the daemon, and its last connection with it, has ended. Returns the exit status.
  int Run();

 private:
  using Clock = Bridge::Clock;
  static constexpr std::chrono::seconds kSweepPeriod{1};

  // A connection on its way to the daemon: connected to its listener, not accepted.
  struct Knock {
    Connection connection;
    UniqueFd end;      // ours
    std::string ends;  // the addresses of both
  };
  // The accepts of one listener that wait for a connection.
  struct Held {
    UniqueFd watch;  // an epoll(7) instance that has the listener
    std::deque<TrappedCall> calls;
  };
  struct Served {
    Bridge bridge;
    uint64_t cookie;   // of the daemon's socket
    std::string name;  // for the log
  };
  using Knocks = std::map<uint64_t, Knock>;

  int Attach();
  int Start();
  void Wait();
  void Dispatch(uint64_t token, uint32_t events);
  Clock::time_point NextTime() const;
  void KeepTime();
  bool Watch(int fd, uint32_t events, uint64_t token);
  void WatchQueue();

  // The queue.
  void TakeConnections();
  void LoseQueue();
  bool HasRoom() const;
  bool FinishFirst();
  bool serving() const { return !bridges_.empty() || !knocks_.empty() || !waiting_.empty(); }
  bool FromEnvironment() const { return options_.socket.empty(); }

  // Knocking.
  void KnockForWaiting();
  bool KnockFor(Connection& connection);
  void KnockEvent(uint64_t id);
  void KnockAgain(Knocks::iterator knock);
  Knock TakeKnock(Knocks::iterator knock);
  void ForgetListener();

  // The daemon's calls.
  void TakeCall();
  void OnListen(const TrappedCall& call, UniqueFd socket);
  void OnAccept(const TrappedCall& call, UniqueFd listener);
  void OnConnect(const TrappedCall& call, UniqueFd socket);
  void OnGetpeername(const TrappedCall& call, int socket);
  void Refuse(const TrappedCall& call, int error);
  bool Answer(const TrappedCall& call, UniqueFd& listener);
  void Deliver(const TrappedCall& call, int family, Knocks::iterator knock, UniqueFd accepted);
  void Serve(Connection connection, UniqueFd end, uint64_t cookie);
  void DeliverOwn(const TrappedCall& call, int family, const Address& peer, UniqueFd accepted);
  void Stranger(UniqueFd accepted);
  bool IsItself(const Address& to) const;
  void OtherListener(const Address& local);
  void Hold(const TrappedCall& call, int listener);
  void AnswerHeld(uint64_t cookie);
  bool AnswerHeld(const TrappedCall& call, uint64_t cookie);
  void SweepHeld();
  bool IsWanted(const Address& local) const;

  void MoveBridge(uint64_t id);

  void TakeSignals();
  void NoteSigterm();
  void Reap();
  void EndGroup();
  void KillDaemon();
  bool Finished() const;
  int ExitStatus() const;

  const RunOptions& options_;
  Queue queue_;
  Daemon daemon_;
  Processes processes_;
  std::unique_ptr<Traps> traps_;
  UniqueFd signals_, epoll_;
  Heartbeat heartbeat_ = Heartbeat::FromEnvironment();

  std::optional<Address> listener_;  // the daemon's listener that stands for the service
  std::set<uint64_t> listeners_;     // the sockets with that address, by their cookies
  std::deque<Connection> waiting_;   // no knock has been made for these
  Knocks knocks_;
  // By both ends, which together no other connection has as long as ours is open. One end alone
  // others can have: a listener on all addresses has connections from the same address and port to
  // several of them.
  std::map<std::string, uint64_t> knocks_by_ends_;
  // The daemon's connections to itself that it has not accepted, the oldest first. We keep a copy
  // of their sockets, so that their ends stay theirs.
  std::deque<std::pair<std::string, UniqueFd>> own_;
  std::map<uint64_t, Held> held_;  // by the listener's cookie
  std::map<uint64_t, Served> bridges_;
  std::set<uint64_t> busy_;  // bridges that have more to move
  Peers peers_;

  uint64_t next_id_ = 0;
  size_t max_bridges_ = 0;
  size_t max_knocks_ = 1;
  bool queue_watched_ = false;
  bool finishing_ = false;  // take no more connections; then tell the daemon to end
  bool told_to_end_ = false;
  bool got_sigterm_ = false;
  uint64_t strangers_ = 0;
  bool refusal_logged_ = false;
  std::set<uint16_t> other_ports_;  // that were logged
  std::string service_;             // the field for the log
  Clock::time_point retry_at_{};    // when to knock again
  Clock::time_point sweep_at_{};
  std::optional<int> exit_status_;  // of the daemon's first process, once it has ended
  bool group_over_ = false;         // the others have ended, too, or got SIGKILL
  Clock::time_point end_at_ = Clock::time_point::max();
  Clock::time_point kill_at_ = Clock::time_point::max();
};

}  // namespace tlsbroker::tools

#endif  // TLSBROKER_CLIENT_LIB_TOOLS_RUN_RUNNER_H_
