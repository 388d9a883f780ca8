// One connection between a client and the daemon: what either sends goes to the other by splice(2),
// and so do ends and cuts. The daemon's side is a TCP connection over loopback, so that the daemon
// has a socket with nothing unusual. Part of `tlsbroker run`; both sides are strangers.

#ifndef TLSBROKER_CLIENT_LIB_TOOLS_RUN_BRIDGE_H_
#define TLSBROKER_CLIENT_LIB_TOOLS_RUN_BRIDGE_H_

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>

#include "protocol/unique_fd.h"
#include "tlsbroker/tlsbroker.hpp"

namespace tlsbroker::tools {

// Whoever has the other end of a TCP connection sees a reset, not an end.
void ResetTcp(UniqueFd& socket);

class Bridge {
 public:
  using Clock = std::chrono::steady_clock;
  enum class Progress {
    kWaiting,  // for one of the descriptors, or for deadline()
    kMore,     // there is more to be moved now, after others had their turn
    kOver,
  };

  // `daemon` is our end of the daemon's connection, non-blocking.
  Bridge(Connection connection, UniqueFd daemon);

  // False and errno on failure. Both descriptors have to be watched for edges, in and out.
  bool Open();
  int client_fd() const { return connection_.fd(); }
  int daemon_fd() const { return daemon_.get(); }

  Progress Move();
  // poll(2) says that the client's socket has an error or is shut.
  void Alarm() { alarm_ = true; }
  std::optional<Clock::time_point> deadline() const { return deadline_; }
  // Both sides see that they were cut off.
  void Cut(const std::string& why);

  // For the log: bytes, and why it was cut if it was.
  std::string Summary() const;

 private:
  enum class Incoming {
    kOpen,
    kEnding,  // the client has ended; the daemon has not got everything
    kEnded,
    kDiscarded,  // the daemon reads no more
  };
  struct Pipe {
    UniqueFd read_end, write_end;  // the latter only as long as more may come
    bool Open();
  };

  bool MoveOnce();
  bool FromClient();
  bool ToDaemon();
  bool FromDaemon();
  bool ToClient();
  bool EndToClient();
  bool Discard();
  void KeepTime(bool moved);
  bool over() const { return !failure_.empty() || closed_; }

  Connection connection_;
  UniqueFd daemon_;
  Pipe in_, out_;
  Incoming incoming_ = Incoming::kOpen;
  bool daemon_ended_ = false;
  bool client_told_ = false;  // that the daemon has ended
  bool alarm_ = false;
  bool closed_ = false;
  std::string failure_;
  std::optional<Clock::time_point> deadline_;
  uint64_t bytes_in_ = 0;
  uint64_t bytes_out_ = 0;
};

}  // namespace tlsbroker::tools

#endif  // TLSBROKER_CLIENT_LIB_TOOLS_RUN_BRIDGE_H_
