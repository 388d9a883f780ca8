// Keyholder and handshaker taken over: what their code could try. All of it ends the process.

#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/keyctl.h>
#include <netinet/in.h>
#include <sched.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <tuple>

#include "tests/isolation/role_fixture.h"

namespace tlsbroker {
namespace {

struct Attempt {
  const char* name;
  int (*run)();  // 0 or an error number
};
void PrintTo(const Attempt& attempt, std::ostream* out) { *out << attempt.name; }

constexpr uint64_t kWide = 1ULL << 32;

int Int80Getpid() {
#if defined(__x86_64__)
  int result = 20;
  asm volatile("int $0x80" : "+a"(result) : : "memory", "r8", "r9", "r10", "r11");
#endif
  return 0;
}

int Map(uint64_t protection) {
  const long memory =
      syscall(SYS_mmap, nullptr, 4096, protection, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  return ErrorOf(memory);
}

int MakeExecutable() {
  void* page = mmap(nullptr, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  return ErrorOf(mprotect(page, 4096, PROT_READ | PROT_EXEC));
}

int Fork() {
  const pid_t child = fork();
  if (child == 0) _exit(0);
  return ErrorOf(child);
}

int Execute() {
  execl("/bin/true", "true", nullptr);
  return errno;
}

int SignalParentByThread(uint64_t high_bits) {
  const pid_t parent = getppid();
  return ErrorOf(syscall(SYS_tgkill, high_bits | static_cast<uint64_t>(parent), parent, 0));
}

constexpr Attempt kForbidden[] = {
    {"Openat2", [] { return ErrorOf(syscall(SYS_openat2, AT_FDCWD, "/", "", 0)); }},
    {"Execute", Execute},
    {"Fork", Fork},
    {"Thread", [] { return ErrorOf(syscall(SYS_clone3, nullptr, 0)); }},
    {"InternetSocket", [] { return ErrorOf(socket(AF_INET, SOCK_STREAM, 0)); }},
    {"UnixSocket", [] { return ErrorOf(socket(AF_UNIX, SOCK_STREAM, 0)); }},
    {"Connect", [] { return ErrorOf(connect(-1, nullptr, 0)); }},
    {"Bind", [] { return ErrorOf(bind(-1, nullptr, 0)); }},
    {"Listen", [] { return ErrorOf(listen(-1, 1)); }},
    {"Ptrace", [] { return ErrorOf(ptrace(PTRACE_SEIZE, getppid(), nullptr, nullptr)); }},
    {"ReadMemory", [] { return ErrorOf(syscall(SYS_process_vm_readv, 1, 0, 0, 0, 0, 0)); }},
    {"OpenProcess", [] { return ErrorOf(syscall(SYS_pidfd_open, getppid(), 0)); }},
    {"Signal", [] { return ErrorOf(kill(getppid(), 0)); }},
    {"SignalByThread", [] { return SignalParentByThread(0); }},
    {"SignalByThreadWide", [] { return SignalParentByThread(kWide); }},
    {"BecomeRoot", [] { return ErrorOf(setuid(0)); }},
    {"Unshare", [] { return ErrorOf(unshare(CLONE_NEWUSER)); }},
    {"Mount", [] { return ErrorOf(mount("tmpfs", "/", "tmpfs", 0, nullptr)); }},
    {"MapExecutable", [] { return Map(PROT_READ | PROT_EXEC); }},
    {"MapExecutableWide", [] { return Map(PROT_READ | PROT_EXEC | kWide); }},
    {"MakeExecutable", MakeExecutable},
    {"MemoryFile", [] { return ErrorOf(memfd_create("m", 0)); }},
    {"RaiseLimit", [] { return ErrorOf(syscall(SYS_prlimit64, 0, RLIMIT_NPROC, 0, 0)); }},
    {"Keyring", [] { return ErrorOf(syscall(SYS_keyctl, KEYCTL_GET_KEYRING_ID, -2, 1)); }},
    {"Bpf", [] { return ErrorOf(syscall(SYS_bpf, 0, nullptr, 0)); }},
    {"IoUring", [] { return ErrorOf(syscall(SYS_io_uring_setup, 1, nullptr)); }},
    {"SendFile", [] { return ErrorOf(syscall(SYS_sendfile, -1, -1, nullptr, 1)); }},
    {"Int80", Int80Getpid},
    {"X32", [] { return ErrorOf(syscall(0x40000000 | SYS_getpid)); }},
    {"OwnDescriptors", [] { return ErrorOf(fcntl(0, F_SETOWN, getppid())); }},
};

constexpr Attempt kForbiddenToKeyholder[] = {
    {"Accept", [] { return ErrorOf(accept4(-1, nullptr, nullptr, 0)); }},
    {"Socketpair",
     [] {
       int p[2];
       return ErrorOf(socketpair(AF_UNIX, SOCK_STREAM, 0, p));
     }},
    {"GetOption", [] { return ErrorOf(getsockopt(-1, SOL_SOCKET, SO_TYPE, 0, 0)); }},
    {"SetOption", [] { return ErrorOf(setsockopt(-1, SOL_SOCKET, SO_TYPE, 0, 0)); }},
    {"SendTo", [] { return ErrorOf(sendto(-1, "", 0, 0, nullptr, 0)); }},
};

constexpr Attempt kForbiddenToHandshaker[] = {
    {"InternetPair",
     [] {
       int p[2];
       return ErrorOf(socketpair(AF_INET, SOCK_STREAM, 0, p));
     }},
    {"InternetPairWide",
     [] {
       int p[2];
       return ErrorOf(syscall(SYS_socketpair, AF_INET | kWide, 1, 0, p));
     }},
    {"DatagramPair",
     [] {
       int p[2];
       return ErrorOf(socketpair(AF_UNIX, SOCK_DGRAM, 0, p));
     }},
    {"DatagramPairWide",
     [] {
       int p[2];
       return ErrorOf(syscall(SYS_socketpair, AF_UNIX, SOCK_DGRAM | kWide, 0, p));
     }},
    {"FastOpen", [] { return ErrorOf(sendto(-1, "", 0, MSG_FASTOPEN, nullptr, 0)); }},
    {"FastOpenMessage", [] { return ErrorOf(sendmsg(-1, nullptr, MSG_FASTOPEN)); }},
    {"IpOptions", [] { return ErrorOf(setsockopt(-1, IPPROTO_IP, 1, "", 1)); }},
    {"TypeIntoTerminal", [] { return ErrorOf(ioctl(0, TIOCSTI, "x")); }},
    {"TypeIntoTerminalWide", [] { return ErrorOf(syscall(SYS_ioctl, 0, TIOCSTI | kWide, "x")); }},
};

class Forbidden : public testing::TestWithParam<std::tuple<Role, SupervisorIs, Attempt>> {};

TEST_P(Forbidden, Kills) {
  const auto& [role, supervisor, attempt] = GetParam();
  if (supervisor == SupervisorIs::kRoot && geteuid() != 0) GTEST_SKIP() << "needs root";
  EXPECT_EQ(Wait(StartRole(role, supervisor, attempt.run)), Killed(SIGSYS));
}

constexpr auto kSupervisors = {SupervisorIs::kRoot, SupervisorIs::kUser};
constexpr auto kName = [](const auto& test) {
  return std::string(std::get<0>(test.param).name) +
         (std::get<1>(test.param) == SupervisorIs::kRoot ? "Root" : "User") +
         std::get<2>(test.param).name;
};
INSTANTIATE_TEST_SUITE_P(Both, Forbidden,
                         testing::Combine(testing::Values(kKeyholder, kHandshaker),
                                          testing::ValuesIn(kSupervisors),
                                          testing::ValuesIn(kForbidden)),
                         kName);
INSTANTIATE_TEST_SUITE_P(More, Forbidden,
                         testing::Combine(testing::Values(kKeyholder),
                                          testing::ValuesIn(kSupervisors),
                                          testing::ValuesIn(kForbiddenToKeyholder)),
                         kName);
INSTANTIATE_TEST_SUITE_P(Further, Forbidden,
                         testing::Combine(testing::Values(kHandshaker),
                                          testing::ValuesIn(kSupervisors),
                                          testing::ValuesIn(kForbiddenToHandshaker)),
                         kName);

}  // namespace
}  // namespace tlsbroker
