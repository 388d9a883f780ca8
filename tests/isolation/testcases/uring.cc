// SPDX-License-Identifier: Apache-2.0
// Attacks by io_uring, whose requests no filter sees: its socket command sets options (Linux 6.7),
// also those that change keys (6.14), and its requests receive messages.

#include <linux/io_uring.h>
#include <linux/tls.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include <cstring>

#include "tests/isolation/testcases/attacks.h"

namespace tlsbroker::attacks {
namespace {

constexpr uint32_t kSetsockopt = 3;  // SOCKET_URING_OP_SETSOCKOPT

int Setup(io_uring_params& parameters) {
  return static_cast<int>(syscall(SYS_io_uring_setup, 1, &parameters));
}

uint8_t* Map(int ring, uint64_t offset, size_t size) {
  return static_cast<uint8_t*>(mmap(nullptr, size, PROT_READ | PROT_WRITE,
                                    MAP_SHARED | MAP_POPULATE, ring, static_cast<off_t>(offset)));
}

// Runs one request and waits for it. Returns its result, or a negative error number.
int Run(int ring, const io_uring_params& parameters, const io_uring_sqe& request) {
  constexpr size_t kRingSize = 4096;  // enough for one entry
  uint8_t* submissions = Map(ring, IORING_OFF_SQ_RING, kRingSize);
  uint8_t* completions = Map(ring, IORING_OFF_CQ_RING, kRingSize);
  uint8_t* entries = Map(ring, IORING_OFF_SQES, sizeof(request));
  if (submissions == MAP_FAILED || completions == MAP_FAILED || entries == MAP_FAILED) return -EIO;
  std::memcpy(entries, &request, sizeof(request));
  const uint32_t one = 1;
  __atomic_store_n(reinterpret_cast<uint32_t*>(submissions + parameters.sq_off.tail), one,
                   __ATOMIC_RELEASE);
  if (syscall(SYS_io_uring_enter, ring, 1, 1, IORING_ENTER_GETEVENTS, nullptr, 0) < 0)
    return -errno;
  io_uring_cqe completion;
  std::memcpy(&completion, completions + parameters.cq_off.cqes, sizeof(completion));
  return completion.res;
}

int SetKeys(const Arguments&) {
  io_uring_params parameters{};
  const int ring = Setup(parameters);
  if (ring < 0) return errno;
  tls12_crypto_info_aes_gcm_128 keys{};
  keys.info = {.version = TLS_1_3_VERSION, .cipher_type = TLS_CIPHER_AES_GCM_128};
  io_uring_sqe request{};
  request.opcode = IORING_OP_URING_CMD;
  request.fd = kConnectionFd;
  request.cmd_op = kSetsockopt;
  // Later headers call these fields level, optname, optlen and optval.
  request.addr = SOL_TLS | uint64_t{TLS_TX} << 32;
  request.splice_fd_in = sizeof(keys);
  request.addr3 = reinterpret_cast<uintptr_t>(&keys);
  const int result = Run(ring, parameters, request);
  return result < 0 ? -result : 0;
}

// The attacker has the queue in the place of a connection.
int Peek(const Arguments&) {
  io_uring_params parameters{};
  const int ring = Setup(parameters);
  if (ring < 0) return errno;
  char byte;
  iovec part{&byte, 1};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof(control);
  io_uring_sqe request{};
  request.opcode = IORING_OP_RECVMSG;
  request.fd = kConnectionFd;
  request.addr = reinterpret_cast<uintptr_t>(&message);
  request.len = 1;
  request.msg_flags = MSG_PEEK;
  const int result = Run(ring, parameters, request);
  if (result < 0) return -result;
  return message.msg_controllen > 0 ? 0 : ENOMSG;
}

int SetupOnly(const Arguments&) {
  io_uring_params parameters{};
  return ErrorOf(Setup(parameters));
}
int Enter(const Arguments&) { return ErrorOf(syscall(SYS_io_uring_enter, -1, 0, 0, 0, 0, 0)); }
int Register(const Arguments&) { return ErrorOf(syscall(SYS_io_uring_register, -1, 0, 0, 0)); }

constexpr Attack kAttacks[] = {
    {"io-uring-set-keys", SetKeys}, {"io-uring-peek", Peek},         {"io-uring-setup", SetupOnly},
    {"io-uring-enter", Enter},      {"io-uring-register", Register},
};

}  // namespace

std::span<const Attack> UringAttacks() { return kAttacks; }

}  // namespace tlsbroker::attacks
