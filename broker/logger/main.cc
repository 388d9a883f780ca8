// SPDX-License-Identifier: Apache-2.0
// tlsbroker-logger: every line that a process of the broker or a worker writes goes through one.
// Started by the supervisor, which it trusts, with the descriptors of broker/support/descriptors.h;
// everything else comes over the control socket (protocol/supervision.h). It reads what workers and
// taken-over processes write, and has nothing but the pipes that it reads and its output.
//
// There is one logger for what the broker itself says, whose output is the broker's standard error,
// and one for the workers of each service, whose output is a pipe to the first: whoever writes into
// a pipe can make its reader wait (broker/README.md, "The log"), and no service may stop another's
// log.

#include <signal.h>
#include <unistd.h>

#include <string>
#include <utility>

#include "broker/logger/server.h"
#include "broker/logger/snapshot.h"
#include "broker/sandbox/logger_policy.h"
#include "broker/sandbox/process_limits.h"
#include "broker/support/descriptors.h"
#include "broker/support/log.h"
#include "broker/support/report.h"
#include "broker/support/status.h"
#include "protocol/role_messages.h"
#include "protocol/unique_fd.h"

namespace tlsbroker {
namespace {

absl::Status Serve(int socket) {
  RETURN_IF_ERROR(sandbox::ForbidDumps());
  logger::Server server;
  ControlEnd control(socket, supervision::kToLogger);
  ASSIGN_OR_RETURN(const supervision::Confinement confinement,
                   logger::ReceiveSnapshot(control, server));
  if (const absl::Status confined = sandbox::ConfineLogger(confinement); !confined.ok()) {
    RETURN_IF_ERROR(ReportSurely(supervision::Failed{.text = std::string(confined.message())}));
    return absl::AbortedError("not started; the supervisor was told why");
  }
  RETURN_IF_ERROR(ReportSurely(supervision::Ready{}));
  // Closes standard error: this process may be the last that could write into its own log, which it
  // reads itself, and would then wait for the end of that pipe.
  const auto alone = [] { UniqueFd(STDERR_FILENO).Reset(); };
  return server.Run(
      control, [] { (void)Report(supervision::Heartbeat{}); }, alone);
}

}  // namespace
}  // namespace tlsbroker

int main() {
  using namespace tlsbroker;
  log::InitBehindLogger();
  signal(SIGXFSZ, SIG_IGN);  // a log file at its size limit is like a full disk (setrlimit(2))
  if (!TakeInitialDescriptors()) {
    log::Error("tlsbroker-logger is started by tlsbrokerd(8), not by hand");
    return 2;
  }
  const UniqueFd control(kControlDescriptor);
  const absl::Status status = Serve(control.get());
  if (status.ok()) return 0;
  const std::string why(status.message());
  absl::IsAborted(status) ? log::Debug(why) : log::Error(why);
  return 1;
}
