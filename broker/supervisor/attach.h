// SPDX-License-Identifier: Apache-2.0
// SERVICE.sock: where workers attach that the supervisor did not start (PROTOCOL.md section 1.1).
// Runs in the supervisor, which decides who may attach and leaves the rest to a porter: the
// supervisor never has a worker's connection, and knows about attached workers only what the porter
// says.

#ifndef TLSBROKER_BROKER_SUPERVISOR_ATTACH_H_
#define TLSBROKER_BROKER_SUPERVISOR_ATTACH_H_

#include <asio/any_io_executor.hpp>
#include <functional>
#include <map>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "broker/supervisor/config.h"
#include "broker/supervisor/porter.h"
#include "broker/supervisor/queue.h"
#include "broker/supervisor/socket_name.h"

namespace tlsbroker::supervisor {

// The users who may attach, besides root and the user who started the broker. All names exist:
// LookUpAccounts() has checked them.
Access AllowedBy(const ServiceConfig& service);

class AttachPoint : public Porter::Purpose {
 public:
  // How many workers may be attached to one service. Each costs the porter a descriptor.
  static constexpr size_t kMaxAttached = 1024;

  struct Worker {
    pid_t pid = 0;
    uid_t uid = 0;
  };

  // `changed` as in Porter.
  AttachPoint(const asio::any_io_executor& executor, const std::string& runtime_dir,
              const std::string& service, PorterStart start, Access allowed,
              std::shared_ptr<Queue> queue, std::function<void()> changed);
  AttachPoint(const AttachPoint&) = delete;
  AttachPoint& operator=(const AttachPoint&) = delete;
  // Removes the name, so that no more workers attach. Those that are attached keep their queue.
  ~AttachPoint() override { porter_->Close(); }

  absl::Status Open() { return porter_->Open(); }
  // Holds for workers that attach from now on.
  void Change(PorterStart start, Access allowed, std::shared_ptr<Queue> queue);

  // The key of the map is an arbitrary number.
  const std::map<uint32_t, Worker>& attached() const { return attached_; }
  // The porter outlives this object until its process has ended.
  const std::shared_ptr<Porter>& porter() const { return porter_; }

 private:
  absl::StatusOr<supervision::Message> Duty() override;
  bool Heard(supervision::Message message) override;
  void Ended() override { attached_.clear(); }

  const std::string service_;
  Access allowed_;
  std::shared_ptr<Queue> queue_;
  std::map<uint32_t, Worker> attached_;
  const std::shared_ptr<Porter> porter_;
};

}  // namespace tlsbroker::supervisor

#endif  // TLSBROKER_BROKER_SUPERVISOR_ATTACH_H_
