// SPDX-License-Identifier: Apache-2.0
// A name in the runtime directory where users of this machine connect, and which of them may. Runs
// in the supervisor, which makes the sockets for it and lets nobody wait in them: closing a
// connection, or a listening socket with connections in it, can take for ever if a stranger wants
// that, since it closes the descriptors that he sent along, and close(2) of a socket with SO_LINGER
// waits. So only the porter calls listen(2).

#ifndef TLSBROKER_BROKER_SUPERVISOR_SOCKET_NAME_H_
#define TLSBROKER_BROKER_SUPERVISOR_SOCKET_NAME_H_

#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/types.h>

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "protocol/unique_fd.h"

namespace tlsbroker::supervisor {

// Who may connect besides the owner, who is root or the user who started the broker.
struct Access {
  std::vector<uid_t> users;
  std::vector<gid_t> groups;

  bool empty() const { return users.empty() && groups.empty(); }
  friend bool operator==(const Access&, const Access&) = default;
};

class SocketName {
 public:
  // `type` is SOCK_SEQPACKET or SOCK_STREAM. Nothing has the name yet.
  SocketName(std::string path, int type, Access access)
      : path_(std::move(path)), type_(type), access_(std::move(access)) {}
  SocketName(const SocketName&) = delete;
  SocketName& operator=(const SocketName&) = delete;
  ~SocketName() { Remove(); }

  // Makes a socket that has the name from now on, in the place of what had it before. It does not
  // listen and does not block. Nobody ever finds the name with other permissions.
  //
  // Exactly those of `access` may connect, by an access control list. Where the file system has
  // none, everybody may, and whoever accepts has to check who connected.
  absl::StatusOr<UniqueFd> Bind();

  // Allows others from now on; the socket stays.
  void Change(Access access);

  // Whether somebody has removed the name since Bind().
  bool missing() const;
  void Remove();

  const std::string& path() const { return path_; }

 private:
  bool IsOurs() const;
  absl::Status Allow(const std::string& path) const;

  const std::string path_;
  const int type_;
  Access access_;
  bool bound_ = false;
  dev_t device_ = 0;  // of what has the name
  ino_t inode_ = 0;
};

}  // namespace tlsbroker::supervisor

#endif  // TLSBROKER_BROKER_SUPERVISOR_SOCKET_NAME_H_
