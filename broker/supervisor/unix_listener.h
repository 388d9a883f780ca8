// A listening Unix socket with a name in the runtime directory. Runs in the supervisor, which reads
// nothing from those who connect and asks the kernel who they are.

#ifndef TLSBROKER_BROKER_SUPERVISOR_UNIX_LISTENER_H_
#define TLSBROKER_BROKER_SUPERVISOR_UNIX_LISTENER_H_

#include <sys/socket.h>
#include <sys/types.h>

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "protocol/unique_fd.h"

namespace tlsbroker::supervisor {

class UnixListener {
 public:
  // Non-blocking; what had the name before is removed. `type` is SOCK_SEQPACKET or SOCK_STREAM.
  static absl::StatusOr<UnixListener> Open(std::string path, int type, mode_t mode);
  UnixListener(UnixListener&&) = default;
  UnixListener& operator=(UnixListener&&) = delete;
  ~UnixListener();  // removes the name

  int get() const { return socket_.get(); }
  const std::string& path() const { return path_; }

  // Invalid, with errno, if nobody waits (EAGAIN) or there is no free descriptor. Non-blocking.
  UniqueFd Accept() const;

 private:
  UnixListener(std::string path, UniqueFd socket)
      : path_(std::move(path)), socket_(std::move(socket)) {}

  std::string path_;
  UniqueFd socket_;
};

// Who connected, as of then (unix(7)).
struct Peer {
  pid_t pid = 0;
  uid_t uid = 0;
  std::vector<gid_t> groups;  // the supplementary ones too

  static absl::StatusOr<Peer> Of(int socket);
};

}  // namespace tlsbroker::supervisor

#endif  // TLSBROKER_BROKER_SUPERVISOR_UNIX_LISTENER_H_
