// SPDX-License-Identifier: Apache-2.0
#include "broker/porter/attach_point.h"

#include <algorithm>
#include <bit>
#include <string>
#include <utility>
#include <variant>

#include "broker/support/log.h"
#include "broker/support/report.h"
#include "broker/support/status.h"
#include "protocol/channel.h"
#include "protocol/supervision.h"

namespace tlsbroker::porter {

AttachPoint::AttachPoint(supervision::AttachPoint rules) : rules_(std::move(rules)) {}

std::string AttachPoint::Describe(pid_t pid, uid_t uid) const {
  return log::Field("service", rules_.service) + log::Field("pid", std::to_string(pid)) +
         log::Field("uid", std::to_string(uid));
}

absl::Status AttachPoint::Welcome(UniqueFd socket) {
  const auto peer = Peer::Of(socket.get());
  if (!peer.ok()) {
    log::Error(std::string(peer.status().message()));
    return absl::OkStatus();
  }
  const attach::Answer answer = AnswerTo(*peer);
  const auto header = attach::Encode(answer);
  if (answer != attach::Answer::kAttached) {
    LogRefusal(*peer, answer);
    (void)channel::Send(socket.get(), header, {}, /*dont_wait=*/true);
    return absl::OkStatus();
  }
  const int queue[] = {rules_.queue.get(), rules_.requests.get()};
  if (channel::Send(socket.get(), header, queue, /*dont_wait=*/true) != channel::Result::kOk)
    return absl::OkStatus();
  log::Info("attached a worker" + Describe(peer->pid, peer->uid));
  const uint32_t number = next_++;
  attached_.push_back({std::move(socket), number, peer->pid, peer->uid});
  return ReportSurely(supervision::Attached{.number = number,
                                            .pid = static_cast<uint32_t>(peer->pid),
                                            .uid = static_cast<uint32_t>(peer->uid)});
}

bool AttachPoint::Allows(const Peer& peer) const {
  if (peer.uid == 0) return true;
  if (std::ranges::find(rules_.uids, peer.uid) != rules_.uids.end()) return true;
  return std::ranges::find_first_of(rules_.gids, peer.groups) != rules_.gids.end();
}

attach::Answer AttachPoint::AnswerTo(const Peer& peer) const {
  if (!Allows(peer)) return attach::Answer::kNotAllowed;
  return attached_.size() < rules_.max_attached ? attach::Answer::kAttached
                                                : attach::Answer::kTooMany;
}

// Only the 1st, 2nd, 4th, 8th... are logged, so that nobody can fill the log.
void AttachPoint::LogRefusal(const Peer& peer, attach::Answer answer) {
  if (!std::has_single_bit(++refused_)) return;
  const bool not_allowed = answer == attach::Answer::kNotAllowed;
  log::Warning("refused a worker" + Describe(peer.pid, peer.uid) +
               log::Field("why", not_allowed ? "not-allowed" : "too-many-attached") +
               log::Field("count", std::to_string(refused_)));
}

void AttachPoint::AddPolled(std::vector<pollfd>& polled) const {
  for (const Worker& worker : attached_) polled.push_back({worker.socket.get(), POLLIN, 0});
}

// A worker is attached until it closes, or sends something, which it may not do and which is not
// read. Its connection is closed last, since that can take for ever, because of a descriptor in
// what the worker sent.
absl::Status AttachPoint::Serve(std::span<const pollfd> polled, Clock::time_point) {
  std::vector<Worker> gone;
  for (size_t i = polled.size(); i-- > 0;) {
    if (polled[i].revents == 0) continue;
    gone.push_back(std::move(attached_[i]));
    attached_.erase(attached_.begin() + static_cast<std::ptrdiff_t>(i));
  }
  for (const Worker& worker : gone) {
    log::Info("detached a worker" + Describe(worker.pid, worker.uid));
    RETURN_IF_ERROR(ReportSurely(supervision::Detached{worker.number}));
  }
  return absl::OkStatus();
}

absl::Status AttachPoint::Handle(supervision::Message message) {
  auto* rules = std::get_if<supervision::AttachPoint>(&message);
  if (rules == nullptr) return absl::InternalError("message out of order from the supervisor");
  rules_ = std::move(*rules);
  log::SetLevel(static_cast<log::Level>(rules_.log_level));
  return absl::OkStatus();
}

}  // namespace tlsbroker::porter
