// SPDX-License-Identifier: Apache-2.0
// One connection between a client and the daemon: what either sends goes to the other by splice(2),
// and so do ends and cuts. The daemon's side is a TCP connection over loopback, so that the daemon
// has a socket with nothing unusual. Part of `tlsbroker run`; both sides are strangers.

#ifndef TLSBROKER_CLIENT_LIB_TOOLS_RUN_BRIDGE_H_
#define TLSBROKER_CLIENT_LIB_TOOLS_RUN_BRIDGE_H_

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>

#include "client-lib/tools/pipe.h"
#include "protocol/unique_fd.h"
#include "tlsbroker/tlsbroker.hpp"

namespace tlsbroker::tools {

// Closes the socket in such a way that the other side sees a reset, not an end.
void ResetTcp(UniqueFd& socket);

class Bridge {
 public:
  using Clock = std::chrono::steady_clock;
  enum class Progress {
    kWaiting,  // waits for one of the descriptors, or for deadline()
    kMore,     // there is more to be moved now, after others had their turn
    kOver,
  };

  // `daemon` is our end of the daemon's connection, non-blocking.
  Bridge(Connection connection, UniqueFd daemon);

  // False and errno on failure. Both descriptors have to be watched, edge-triggered, in both
  // directions.
  bool Open();
  int client_fd() const { return connection_.fd(); }
  int daemon_fd() const { return daemon_.get(); }

  Progress Move();
  std::optional<Clock::time_point> deadline() const { return deadline_; }
  // Cuts the connection on both sides, so that both see a cut and not an end.
  void Cut(const std::string& why);

  // For the log: the number of bytes, and why the connection was cut if it was.
  std::string Summary() const;

 private:
  enum class Incoming {
    kOpen,
    kEnding,  // the client has ended; the daemon has not got everything
    kEnded,
    kCutOff,     // the client was cut off; the daemon has not got everything
    kDiscarded,  // the daemon reads no more
  };
  bool MoveOnce();
  bool FromClient();
  bool ToDaemon();
  bool FromDaemon();
  bool ToClient();
  bool EndToClient();
  void ClientTakesNoMore(const std::string& why);
  void CutOnceDelivered();
  bool IsSilent() const;
  bool Discard();
  bool DiscardOutput();
  void KeepTime(bool moved);
  Progress Linger();
  bool over() const { return !failure_.empty() || closed_; }

  Connection connection_;
  UniqueFd daemon_;
  Pipe in_, out_;  // a write end is open only as long as more may come
  Incoming incoming_ = Incoming::kOpen;
  bool daemon_ended_ = false;
  bool client_told_ = false;    // the daemon's end was sent to the client
  bool client_silent_ = false;  // nothing came when it was asked last
  bool closed_ = false;
  bool refused_ = false;  // what the client sent last was refused
  bool lingers_ = false;
  std::string cut_off_;  // why both sides are cut once the daemon has what the client said last
  Clock::time_point undelivered_since_{};  // then: the last time that the daemon took something
  int undelivered_ = 0;
  bool writes_in_vain_ = false;  // the daemon has written since then
  std::string failure_;
  std::optional<Clock::time_point> deadline_;
  uint64_t bytes_in_ = 0;
  uint64_t bytes_out_ = 0;
};

}  // namespace tlsbroker::tools

#endif  // TLSBROKER_CLIENT_LIB_TOOLS_RUN_BRIDGE_H_
