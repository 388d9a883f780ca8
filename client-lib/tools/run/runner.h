// `tlsbroker run`: starts a daemon that listens and accepts by itself, and gives it the TLS
// connections of a service as what it accepts.
//
// For each connection from the service's queue the runner connects to the daemon's own listener, so
// that whatever the daemon waits with wakes up ("knocks"). The daemon's accept(2) is trapped; the
// runner makes it, tells its own knocks from strangers by their addresses, and returns the socket
// with the client's address. Nothing of a client moves before that: whoever else listens where the
// daemon did, gets nothing.

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

  // Until the daemon has ended and its last connection with it. The exit status.
  int Run();

 private:
  using Clock = Bridge::Clock;
  static constexpr std::chrono::seconds kSweepPeriod{1};

  // A connection on its way to the daemon: connected to its listener, not accepted.
  struct Knock {
    Connection connection;
    UniqueFd end;         // ours
    std::string address;  // of `end`
  };
  // The accepts of one listener that wait for a connection.
  struct Held {
    UniqueFd watch;  // epoll(7), of the listener
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
  void OnGetpeername(const TrappedCall& call, int socket);
  void Refuse(const TrappedCall& call, int error);
  bool Answer(const TrappedCall& call, UniqueFd& listener);
  void Deliver(const TrappedCall& call, int family, Knocks::iterator knock, UniqueFd accepted);
  void Serve(Connection connection, UniqueFd end, uint64_t cookie);
  void Stranger(UniqueFd accepted);
  void Hold(const TrappedCall& call, int listener);
  void AnswerHeld(uint64_t cookie);
  bool AnswerHeld(const TrappedCall& call, uint64_t cookie);
  void SweepHeld();
  bool IsWanted(const Address& local) const;

  void MoveBridge(uint64_t id);

  void TakeSignals();
  void Reap();
  bool Finished() const;
  int ExitStatus() const;

  const RunOptions& options_;
  Queue queue_;
  Daemon daemon_;
  Processes processes_;
  std::unique_ptr<Traps> traps_;
  UniqueFd signals_, epoll_;

  std::optional<Address> listener_;  // the daemon's, that stands for the service
  std::set<uint64_t> listeners_;     // the sockets with that address, by their cookies
  std::deque<Connection> waiting_;   // to knock
  Knocks knocks_;
  std::map<std::string, uint64_t> knocks_by_address_;
  std::map<uint64_t, Held> held_;  // by the listener's cookie
  std::map<uint64_t, Served> bridges_;
  std::set<uint64_t> busy_;  // bridges that have more to move
  Peers peers_;

  uint64_t next_id_ = 0;
  size_t max_bridges_ = 0;
  size_t max_knocks_ = 1;
  bool queue_watched_ = false;
  bool finishing_ = false;  // no more connections; then the daemon is told to end
  bool told_to_end_ = false;
  uint64_t strangers_ = 0;
  bool refusal_logged_ = false;
  Clock::time_point retry_at_{};  // to knock
  Clock::time_point sweep_at_{};
  std::optional<int> exit_status_;  // of the daemon, once it has ended
  Clock::time_point end_at_ = Clock::time_point::max();
};

}  // namespace tlsbroker::tools

#endif  // TLSBROKER_CLIENT_LIB_TOOLS_RUN_RUNNER_H_
