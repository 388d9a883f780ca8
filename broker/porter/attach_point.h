// SPDX-License-Identifier: Apache-2.0
// SERVICE.sock: where workers attach that the supervisor did not start (PROTOCOL.md section 1.1).
// Runs in the porter of that service. The name's permissions keep strangers out, where the file
// system has access control lists; this process checks all the same who has connected.

#ifndef TLSBROKER_BROKER_PORTER_ATTACH_POINT_H_
#define TLSBROKER_BROKER_PORTER_ATTACH_POINT_H_

#include <sys/socket.h>

#include <cstdint>
#include <span>
#include <vector>

#include "broker/porter/peer.h"
#include "broker/porter/visitors.h"
#include "protocol/attach.h"
#include "protocol/message.h"
#include "protocol/porter_messages.h"

namespace tlsbroker::porter {

class AttachPoint : public Visitors {
 public:
  explicit AttachPoint(supervision::AttachPoint rules);

  int socket_type() const override { return SOCK_SEQPACKET; }
  bool room() const override { return true; }  // a worker that is one too many is told so
  absl::Status Welcome(UniqueFd socket) override;
  void AddPolled(std::vector<pollfd>& polled) const override;
  absl::Status Serve(std::span<const pollfd> polled, Clock::time_point now) override;
  // Takes other rules, for workers that attach from now on.
  absl::Status Handle(supervision::Message message) override;

 private:
  struct Worker {
    UniqueFd socket;
    uint32_t number;
    pid_t pid;
    uid_t uid;
  };

  bool Allows(const Peer& peer) const;
  attach::Answer AnswerTo(const Peer& peer) const;
  void LogRefusal(const Peer& peer, attach::Answer answer);
  std::string Describe(pid_t pid, uid_t uid) const;

  supervision::AttachPoint rules_;
  std::vector<Worker> attached_;
  uint32_t next_ = 0;
  uint64_t refused_ = 0;
};

}  // namespace tlsbroker::porter

#endif  // TLSBROKER_BROKER_PORTER_ATTACH_POINT_H_
