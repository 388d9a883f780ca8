// SPDX-License-Identifier: Apache-2.0
// Who connected, as the kernel knows it. Runs in the porter.

#ifndef TLSBROKER_BROKER_PORTER_PEER_H_
#define TLSBROKER_BROKER_PORTER_PEER_H_

#include <sys/types.h>

#include <vector>

#include "absl/status/statusor.h"

namespace tlsbroker::porter {

// As of connect(2) by the peer (unix(7)).
struct Peer {
  pid_t pid = 0;
  uid_t uid = 0;
  std::vector<gid_t> groups;  // the supplementary ones too

  static absl::StatusOr<Peer> Of(int socket);
};

}  // namespace tlsbroker::porter

#endif  // TLSBROKER_BROKER_PORTER_PEER_H_
