// SPDX-License-Identifier: Apache-2.0
#include "broker/supervisor/attach.h"

#include <grp.h>
#include <pwd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <utility>
#include <variant>

#include "broker/supervisor/snapshot.h"
#include "broker/support/log.h"
#include "broker/support/status.h"
#include "protocol/supervision.h"

namespace tlsbroker::supervisor {

Access AllowedBy(const ServiceConfig& service) {
  Access access;
  for (const auto& user : service.allow_users) {
    if (const passwd* entry = getpwnam(user.value.c_str())) access.users.push_back(entry->pw_uid);
  }
  for (const auto& group : service.allow_groups) {
    if (const ::group* entry = getgrnam(group.value.c_str()))
      access.groups.push_back(entry->gr_gid);
  }
  return access;
}

AttachPoint::AttachPoint(const asio::any_io_executor& executor, const std::string& runtime_dir,
                         const std::string& service, PorterStart start, Access allowed,
                         std::shared_ptr<Queue> queue, std::function<void()> changed)
    : service_(service),
      allowed_(std::move(allowed)),
      queue_(std::move(queue)),
      porter_(std::make_shared<Porter>(executor, service, std::move(start),
                                       runtime_dir + "/" + service + ".sock", SOCK_SEQPACKET,
                                       allowed_, *this, std::move(changed))) {}

// Sends the rules before it changes the permissions: whoever can connect because of the new
// permissions finds the new rules.
void AttachPoint::Change(PorterStart start, Access allowed, std::shared_ptr<Queue> queue) {
  allowed_ = std::move(allowed);
  queue_ = std::move(queue);
  porter_->Tell();
  porter_->SetAccess(allowed_);
  porter_->Restart(std::move(start));
}

absl::StatusOr<supervision::Message> AttachPoint::Duty() {
  supervision::AttachPoint duty{.service = service_,
                                .log_level = static_cast<uint8_t>(log::level()),
                                .max_attached = kMaxAttached,
                                .uids = {allowed_.users.begin(), allowed_.users.end()},
                                .gids = {allowed_.groups.begin(), allowed_.groups.end()},
                                .queue = {},
                                .requests = {}};
  duty.uids.push_back(geteuid());
  ASSIGN_OR_RETURN(duty.queue, Duplicate(queue_->receiving()));
  ASSIGN_OR_RETURN(duty.requests, Duplicate(queue_->requesting()));
  return duty;
}

bool AttachPoint::Heard(supervision::Message message) {
  if (const auto* attached = std::get_if<supervision::Attached>(&message)) {
    const Worker worker{.pid = static_cast<pid_t>(attached->pid), .uid = attached->uid};
    return attached_.size() < kMaxAttached && attached_.emplace(attached->number, worker).second;
  }
  const auto* detached = std::get_if<supervision::Detached>(&message);
  return detached != nullptr && attached_.erase(detached->number) == 1;
}

}  // namespace tlsbroker::supervisor
