// SPDX-License-Identifier: Apache-2.0
// tlsbroker-porter: serves one socket in the runtime directory where users of this machine connect,
// SERVICE.sock or `status`, with one process for each. Started by the supervisor, which it trusts,
// with the descriptors of broker/support/descriptors.h. It does not trust those who connect at all,
// and reads nothing that they send. One of them may make it wait for ever, by a descriptor whose
// close(2) takes as long as its sender likes: that is why it is a process of its own.

#include <signal.h>

#include <string>
#include <utility>

#include "broker/porter/loop.h"
#include "broker/porter/snapshot.h"
#include "broker/sandbox/porter_policy.h"
#include "broker/support/descriptors.h"
#include "broker/support/log.h"
#include "broker/support/report.h"
#include "broker/support/status.h"
#include "protocol/role_messages.h"

namespace tlsbroker::porter {
namespace {

absl::StatusOr<Loop> SetUp(ControlEnd control, Snapshot snapshot) {
  RETURN_IF_ERROR(sandbox::ConfinePorter(snapshot.confinement));
  Loop loop(control, std::move(snapshot.visitors));
  RETURN_IF_ERROR(loop.Open(std::move(snapshot.door)));
  return loop;
}

absl::Status Serve() {
  ControlEnd control(kControlDescriptor, supervision::kToPorter);
  ASSIGN_OR_RETURN(Snapshot snapshot, ReceiveSnapshot(control));
  auto loop = SetUp(control, std::move(snapshot));
  if (!loop.ok()) {
    RETURN_IF_ERROR(
        ReportSurely(supervision::Failed{.text = std::string(loop.status().message())}));
    return loop.status();
  }
  RETURN_IF_ERROR(ReportSurely(supervision::Ready{}));
  return loop->Run();
}

}  // namespace
}  // namespace tlsbroker::porter

int main() {
  using namespace tlsbroker;
  log::InitBehindLogger();
  signal(SIGPIPE, SIG_IGN);
  if (!TakeInitialDescriptors()) {
    log::Error("tlsbroker-porter is started by tlsbrokerd(8), not by hand");
    return 2;
  }
  const absl::Status status = porter::Serve();
  if (status.ok()) return 0;
  log::Error(std::string(status.message()));
  return 1;
}
