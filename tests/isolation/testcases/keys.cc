// SPDX-License-Identifier: Apache-2.0
// Attacks on the keys of the connection that the attacker holds.

#include <linux/tls.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/isolation/testcases/attacks.h"

namespace tlsbroker::attacks {
namespace {

// System call numbers of the i386 table.
constexpr uint32_t kInt80Socketcall = 102;
constexpr uint32_t kInt80Getsockopt = 365;
constexpr uint32_t kSocketcallGetsockopt = 15;
constexpr long kX32Bit = 0x40000000;
constexpr long kX32Getsockopt = 542;

int ReadKey(int fd, uint64_t level, long call = SYS_getsockopt) {
  tls12_crypto_info_aes_gcm_128 keys{};
  socklen_t size = sizeof(keys);
  return ErrorOf(syscall(call, fd, level, TLS_TX, &keys, &size));
}

int Get(const Arguments& arguments) { return ReadKey(kConnectionFd, Register(arguments.at(0))); }

int GetFromDuplicate(const Arguments&) { return ReadKey(dup(kConnectionFd), SOL_TLS); }

int GetInChild(const Arguments&) {
  const pid_t child = fork();
  if (child < 0) return errno;
  if (child == 0) _exit(ReadKey(kConnectionFd, SOL_TLS));
  int status = 0;
  waitpid(child, &status, 0);
  return WEXITSTATUS(status);
}

// Reads the keys in a second process, which has received the descriptor from the first by
// SCM_RIGHTS.
int GetFromReceived(int socket) {
  char byte = 0;
  iovec part{&byte, 1};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof(control);
  if (recvmsg(socket, &message, 0) != 1 || CMSG_FIRSTHDR(&message) == nullptr) return EPROTO;
  int fd = -1;
  memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof(fd));
  return ReadKey(fd, SOL_TLS);
}

int SendConnection(int socket) {
  char byte = 0;
  iovec part{&byte, 1};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof(control);
  cmsghdr* header = CMSG_FIRSTHDR(&message);
  header->cmsg_level = SOL_SOCKET;
  header->cmsg_type = SCM_RIGHTS;
  header->cmsg_len = CMSG_LEN(sizeof(int));
  memcpy(CMSG_DATA(header), &kConnectionFd, sizeof(int));
  return ErrorOf(sendmsg(socket, &message, 0));
}

int GetAfterPassing(const Arguments&) {
  int pair[2];
  if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair) != 0) return errno;
  const pid_t child = fork();
  if (child == 0) {
    close(kConnectionFd);
    _exit(GetFromReceived(pair[1]));
  }
  if (const int error = SendConnection(pair[0]); error != 0) return error;
  int status = 0;
  waitpid(child, &status, 0);
  return WEXITSTATUS(status);
}

int GetAfterExec(const Arguments& arguments) {
  execl(arguments.at(0).c_str(), arguments.at(0).c_str(), "get-keys", "282", nullptr);
  return errno;
}

int GetByX32(const Arguments&) { return ReadKey(kConnectionFd, SOL_TLS, kX32Bit | kX32Getsockopt); }

int Set(const Arguments& arguments) {
  tls12_crypto_info_aes_gcm_128 keys{};
  keys.info = {.version = TLS_1_3_VERSION, .cipher_type = TLS_CIPHER_AES_GCM_128};
  return ErrorOf(syscall(SYS_setsockopt, kConnectionFd, Register(arguments.at(0)), TLS_TX, &keys,
                         sizeof(keys)));
}

int SetUlp(const Arguments& arguments) {
  return ErrorOf(syscall(SYS_setsockopt, kConnectionFd, Register(arguments.at(0)),
                         Register(arguments.at(1)), "tls", 4));
}

#if defined(__x86_64__)

// What an i386 call reads has to lie below 4 GiB.
struct LowMemory {
  uint8_t keys[64];
  uint32_t size;
  uint32_t arguments[5];
};

LowMemory* MapLow() {
  void* memory = mmap(nullptr, sizeof(LowMemory), PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);
  auto* low = static_cast<LowMemory*>(memory);
  low->size = sizeof(tls12_crypto_info_aes_gcm_128);
  return low;
}

uint32_t Low(const void* pointer) {
  return static_cast<uint32_t>(reinterpret_cast<uintptr_t>(pointer));
}

int Int80(uint32_t call, uint32_t b, uint32_t c, uint32_t d, uint32_t si, uint32_t di) {
  int result;
  asm volatile("int $0x80"
               : "=a"(result)
               : "a"(call), "b"(b), "c"(c), "d"(d), "S"(si), "D"(di)
               : "memory", "r8", "r9", "r10", "r11");
  return result < 0 ? -result : 0;
}

int GetByInt80(const Arguments&) {
  LowMemory* low = MapLow();
  return Int80(kInt80Getsockopt, kConnectionFd, SOL_TLS, TLS_TX, Low(low->keys), Low(&low->size));
}

int GetBySocketcall(const Arguments&) {
  LowMemory* low = MapLow();
  const uint32_t arguments[5] = {kConnectionFd, SOL_TLS, TLS_TX, Low(low->keys), Low(&low->size)};
  memcpy(low->arguments, arguments, sizeof(arguments));
  return Int80(kInt80Socketcall, kSocketcallGetsockopt, Low(low->arguments), 0, 0, 0);
}

#else

int GetByInt80(const Arguments&) { return ENOSYS; }
int GetBySocketcall(const Arguments&) { return ENOSYS; }

#endif

constexpr Attack kAttacks[] = {
    {"get-keys", Get},
    {"get-keys-from-duplicate", GetFromDuplicate},
    {"get-keys-in-child", GetInChild},
    {"get-keys-after-exec", GetAfterExec},
    {"get-keys-after-passing", GetAfterPassing},
    {"get-keys-by-int80", GetByInt80},
    {"get-keys-by-socketcall", GetBySocketcall},
    {"get-keys-by-x32", GetByX32},
    {"set-keys", Set},
    {"set-ulp", SetUlp},
};

}  // namespace

std::span<const Attack> KeyAttacks() { return kAttacks; }

}  // namespace tlsbroker::attacks
