// SPDX-License-Identifier: Apache-2.0
// tlsbroker-keyholder: the only process whose memory has private keys. Started by the supervisor,
// which it trusts, with the descriptors of broker/support/descriptors.h; everything else comes over
// the control channel (protocol/supervision.h). It links libcrypto and no libssl, and parses
// nothing that comes from a network: only signing.h's requests, from the handshakers.

#include <openssl/crypto.h>

#include <optional>
#include <string>
#include <utility>

#include "broker/keyholder/memory.h"
#include "broker/keyholder/sign_service.h"
#include "broker/keyholder/snapshot.h"
#include "broker/sandbox/keyholder_policy.h"
#include "broker/sandbox/process_limits.h"
#include "broker/support/descriptors.h"
#include "broker/support/log.h"
#include "broker/support/report.h"
#include "broker/support/status.h"
#include "protocol/role_messages.h"
#include "protocol/unique_fd.h"

namespace tlsbroker {
namespace {

// Does everything that can fail; returns nullopt when the process is ready to serve.
std::optional<supervision::Failed> SetUp(KeyholderSnapshot snapshot, SignService& service) {
  const supervision::Confinement confinement = snapshot.confinement;
  absl::Status status = LockMemory(snapshot.certificates.size() + snapshot.inspections.size());
  if (status.ok()) status = LoadFromOutside(snapshot);
  if (status.ok()) status = sandbox::ConfineKeyholder(confinement);
  if (status.ok()) return Load(std::move(snapshot), service);
  return supervision::Failed{.text = std::string(status.message())};
}

absl::Status Serve(int socket) {
  RETURN_IF_ERROR(sandbox::ForbidDumps());           // before the first key is read
  RETURN_IF_ERROR(sandbox::RaiseDescriptorLimit());  // it gets a few for each certificate
  ControlEnd control(socket, supervision::kToKeyholder);
  ASSIGN_OR_RETURN(KeyholderSnapshot snapshot, ReceiveSnapshot(control));
  SignService service;
  if (const auto failed = SetUp(std::move(snapshot), service)) {
    RETURN_IF_ERROR(ReportSurely(*failed));
    return absl::AbortedError("not started; the supervisor was told why");
  }
  RETURN_IF_ERROR(ReportSurely(supervision::Ready{}));
  // Tells the supervisor that the loop turns. A lost heartbeat does not matter, since the next one
  // says the same.
  const auto beat = [] { (void)Report(supervision::Heartbeat{}); };
  return service.Run(
      socket, [&] { return FollowSupervisor(control, service); }, beat);
}

}  // namespace
}  // namespace tlsbroker

int main() {
  using namespace tlsbroker;
  log::InitBehindLogger();
  if (!TakeInitialDescriptors()) {
    log::Error("tlsbroker-keyholder is started by tlsbrokerd(8), not by hand");
    return 2;
  }
  const UniqueFd control(kControlDescriptor);
  const absl::Status status = Serve(control.get());
  (void)CRYPTO_secure_malloc_done();  // the keys are freed and wiped; this unmaps their heap
  if (status.ok()) return 0;
  // If the supervisor was told why (Aborted), it logs that, with the place in the configuration.
  const std::string why(status.message());
  absl::IsAborted(status) ? log::Debug(why) : log::Error(why);
  return 1;
}
