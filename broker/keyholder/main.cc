// tlsbroker-keyholder: the only process whose memory has private keys. Started by the supervisor,
// which it trusts, with exactly these descriptors:
//   0, 1  /dev/null
//   2     the log
//   3     the control channel to the supervisor (protocol/supervision.h)
// Everything else comes over the control channel. It links libcrypto and no libssl, and parses
// nothing that comes from a network: only signing.h's requests, from the handshakers.

#include <openssl/crypto.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <optional>
#include <string>
#include <utility>

#include "broker/keyholder/memory.h"
#include "broker/keyholder/sign_service.h"
#include "broker/keyholder/snapshot.h"
#include "broker/sandbox/keyholder_policy.h"
#include "broker/sandbox/process_limits.h"
#include "broker/support/log.h"
#include "broker/support/status.h"
#include "protocol/unique_fd.h"

namespace tlsbroker {
namespace {

constexpr int kControlFd = 3;

bool IsDevNull(int fd) {
  struct stat status;
  return fstat(fd, &status) == 0 && S_ISCHR(status.st_mode) && status.st_rdev == makedev(1, 3);
}

bool IsControlChannel(int fd) {
  int domain = 0;
  int type = 0;
  socklen_t size = sizeof(int);
  return getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &size) == 0 && domain == AF_UNIX &&
         getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &size) == 0 && type == SOCK_SEQPACKET;
}

bool StartedBySupervisor() { return IsDevNull(0) && IsDevNull(1) && IsControlChannel(kControlFd); }

// Everything that can fail; nullopt when the process is ready to serve.
std::optional<supervision::Failed> SetUp(KeyholderSnapshot snapshot, SignService& service) {
  const supervision::Confinement confinement = snapshot.confinement;
  absl::Status status = LockMemory(snapshot.certificates.size());
  if (status.ok()) {
    if (auto failed = Load(std::move(snapshot), service)) return failed;
    status = sandbox::ConfineKeyholder(confinement);
  }
  if (status.ok()) return std::nullopt;
  return supervision::Failed{.text = std::string(status.message())};
}

absl::Status Serve(int control) {
  RETURN_IF_ERROR(sandbox::ForbidDumps());  // before the first key is read
  ASSIGN_OR_RETURN(KeyholderSnapshot snapshot, ReceiveSnapshot(control));
  SignService service;
  if (const auto failed = SetUp(std::move(snapshot), service)) {
    RETURN_IF_ERROR(Report(control, *failed));
    return absl::AbortedError("not started; the supervisor was told why");
  }
  RETURN_IF_ERROR(Report(control, supervision::Ready{}));
  return service.Run(control);
}

}  // namespace
}  // namespace tlsbroker

int main() {
  using namespace tlsbroker;
  log::Init("keyholder");
  if (!StartedBySupervisor()) {
    log::Error("tlsbroker-keyholder is started by tlsbrokerd(8), not by hand");
    return 2;
  }
  (void)close_range(kControlFd + 1, ~0U, 0);  // the table above is all
  const UniqueFd control(kControlFd);
  const absl::Status status = Serve(control.get());
  (void)CRYPTO_secure_malloc_done();  // the keys are freed and wiped; this unmaps their heap
  if (status.ok()) return 0;
  // What the supervisor was told, it logs itself, with the place in the configuration.
  const std::string why(status.message());
  absl::IsAborted(status) ? log::Debug(why) : log::Error(why);
  return 1;
}
