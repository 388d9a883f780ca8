// SPDX-License-Identifier: Apache-2.0
// What an attacker's code could try in a keyholder, handshaker, logger or porter that was taken
// over. Each attempt ends the process.

#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/keyctl.h>
#include <linux/tls.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <termios.h>
#include <unistd.h>

#include <set>
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
  CallByInt80();
  return 0;
}

int Map(uint64_t protection) {
  const long memory =
      syscall(SYS_mmap, nullptr, 4096, protection, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  return ErrorOf(memory);
}

// Ordinary programs load their libraries in this way.
int MapFile() { return ErrorOf(syscall(SYS_mmap, nullptr, 4096, PROT_READ, MAP_PRIVATE, 0, 0)); }

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
    {"MapFile", MapFile},
    {"PunchHole", [] { return ErrorOf(madvise(nullptr, 0, MADV_REMOVE)); }},
    {"PunchHoleWide", [] { return ErrorOf(syscall(SYS_madvise, 0, 0, MADV_REMOVE | kWide)); }},
    {"MemoryFile", [] { return ErrorOf(memfd_create("m", 0)); }},
    {"RaiseLimit", [] { return ErrorOf(syscall(SYS_prlimit64, 0, RLIMIT_NPROC, 0, 0)); }},
    {"Keyring", [] { return ErrorOf(syscall(SYS_keyctl, KEYCTL_GET_KEYRING_ID, -2, 1)); }},
    {"Bpf", [] { return ErrorOf(syscall(SYS_bpf, 0, nullptr, 0)); }},
    {"IoUring", [] { return ErrorOf(syscall(SYS_io_uring_setup, 1, nullptr)); }},
    {"Splice", [] { return ErrorOf(splice(-1, nullptr, -1, nullptr, 1, 0)); }},
    {"VirtualSplice", [] { return ErrorOf(vmsplice(-1, nullptr, 0, 0)); }},
    {"Tee", [] { return ErrorOf(tee(-1, -1, 1, 0)); }},
    {"SendFile", [] { return ErrorOf(syscall(SYS_sendfile, -1, -1, nullptr, 1)); }},
    {"Int80", Int80Getpid},
    {"X32", [] { return ErrorOf(syscall(0x40000000 | SYS_getpid)); }},
    {"OwnDescriptors", [] { return ErrorOf(fcntl(0, F_SETOWN, getppid())); }},
};

constexpr Attempt kForbiddenToKeyholderHandshakerAndLogger[] = {
    {"Listen", [] { return ErrorOf(listen(-1, 1)); }},
    {"Flock", [] { return ErrorOf(syscall(SYS_flock, 0, 0)); }},
};

constexpr Attempt kForbiddenToKeyholder[] = {
    {"ReceiveFromOther", [] { return ErrorOf(recvmsg(5, nullptr, 0)); }},
    {"SendMessage", [] { return ErrorOf(sendmsg(3, nullptr, 0)); }},
};

constexpr Attempt kForbiddenToKeyholderAndLogger[] = {
    {"Accept", [] { return ErrorOf(accept4(-1, nullptr, nullptr, 0)); }},
    {"Socketpair",
     [] {
       int p[2];
       return ErrorOf(socketpair(AF_UNIX, SOCK_STREAM, 0, p));
     }},
    {"GetOption", [] { return ErrorOf(getsockopt(-1, SOL_SOCKET, SO_TYPE, 0, 0)); }},
    {"SetOption", [] { return ErrorOf(setsockopt(-1, SOL_SOCKET, SO_TYPE, 0, 0)); }},
    {"SendTo", [] { return ErrorOf(sendto(-1, "", 0, 0, nullptr, 0)); }},
    {"StatusFlags", [] { return ErrorOf(fcntl(0, F_SETFL, O_NONBLOCK)); }},
};

int SendTo(uint64_t flags, const sockaddr* address) {
  return ErrorOf(syscall(SYS_sendto, -1, "", 0, flags, address, 16));
}

constexpr uint64_t kLoggersFlags = MSG_DONTWAIT | MSG_NOSIGNAL;

constexpr Attempt kForbiddenToLogger[] = {
    {"SendMessage", [] { return ErrorOf(sendmsg(-1, nullptr, 0)); }},
    {"SendToAddress",
     [] {
       const sockaddr address{};
       return SendTo(kLoggersFlags, &address);
     }},
    {"SendToHighAddress",
     [] { return SendTo(kLoggersFlags, reinterpret_cast<const sockaddr*>(kWide)); }},
    {"SendFastOpen", [] { return SendTo(kLoggersFlags | MSG_FASTOPEN, nullptr); }},
    {"SendAndWait", [] { return SendTo(MSG_NOSIGNAL, nullptr); }},
    {"Truncate", [] { return ErrorOf(ftruncate(0, 0)); }},
    {"Seek", [] { return ErrorOf(lseek(0, 0, SEEK_SET)); }},
    {"TerminalFlow", [] { return ErrorOf(ioctl(0, TCXONC, TCOOFF)); }},
};

// kHigh sets bits that the kernel ignores.
template <int kLevel, int kName, uint64_t kHigh = 0>
int GetOption() {
  return ErrorOf(syscall(SYS_getsockopt, -1, kHigh | kLevel, kHigh | kName, nullptr, nullptr));
}
template <int kLevel, int kName, uint64_t kHigh = 0>
int SetOption() {
  return ErrorOf(syscall(SYS_setsockopt, -1, kHigh | kLevel, kHigh | kName, nullptr, 0));
}

// These matter most on a listener: what is set on it stays when its handshaker has ended.
constexpr Attempt kForbiddenOptions[] = {
    {"AttachFilter", SetOption<SOL_SOCKET, SO_ATTACH_FILTER>},
    {"AttachFilterWide", SetOption<SOL_SOCKET, SO_ATTACH_FILTER, kWide>},
    {"AttachFilterAllWide", SetOption<SOL_SOCKET, SO_ATTACH_FILTER, 0xffffffffULL << 32>},
    {"LockFilter", SetOption<SOL_SOCKET, SO_LOCK_FILTER>},
    {"LockFilterWide", SetOption<SOL_SOCKET, SO_LOCK_FILTER, kWide>},
    {"Linger", SetOption<SOL_SOCKET, SO_LINGER>},
    {"LingerWide", SetOption<SOL_SOCKET, SO_LINGER, kWide>},
    {"ReceiveBuffer", SetOption<SOL_SOCKET, SO_RCVBUF>},
    {"ReusePort", SetOption<SOL_SOCKET, SO_REUSEPORT>},
    {"DeferAccept", SetOption<IPPROTO_TCP, TCP_DEFER_ACCEPT>},
    {"DeferAcceptWide", SetOption<IPPROTO_TCP, TCP_DEFER_ACCEPT, kWide>},
    {"FastOpenQueue", SetOption<IPPROTO_TCP, TCP_FASTOPEN>},
    {"FastOpenConnect", SetOption<IPPROTO_TCP, TCP_FASTOPEN_CONNECT>},
    {"IpOptions", SetOption<IPPROTO_IP, IP_OPTIONS>},
    {"Ipv6Only", SetOption<IPPROTO_IPV6, IPV6_V6ONLY>},
    {"Ipv6OnlyWide", SetOption<IPPROTO_IPV6, IPV6_V6ONLY, kWide>},
    // Numbers of options that are allowed, but at other levels.
    {"NumberOfTcpUlpOfSocket", SetOption<SOL_SOCKET, TCP_ULP>},
    {"NumberOfTlsTxOfIp", SetOption<IPPROTO_IP, TLS_TX>},
    {"PeerCredentials", GetOption<SOL_SOCKET, SO_PEERCRED>},
    {"PeerCredentialsWide", GetOption<SOL_SOCKET, SO_PEERCRED, kWide>},
    {"TcpInfo", GetOption<IPPROTO_TCP, TCP_INFO>},
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
    {"PacketPair",
     [] {
       int p[2];
       return ErrorOf(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, p));
     }},
    {"StopListener", [] { return ErrorOf(shutdown(-1, SHUT_RD)); }},
    {"StopListenerWide", [] { return ErrorOf(syscall(SYS_shutdown, -1, SHUT_RD | kWide)); }},
    {"StopListenerBothWays", [] { return ErrorOf(shutdown(-1, SHUT_RDWR)); }},
    {"EventLoop", [] { return ErrorOf(epoll_create1(0)); }},
    {"CloseOnExec", [] { return ErrorOf(fcntl(0, F_SETFD, 0)); }},
    {"SignalOnInput",
     [] {
       int on = 1;
       return ErrorOf(ioctl(-1, FIOASYNC, &on));
     }},
    {"FastOpen", [] { return ErrorOf(sendto(-1, "", 0, MSG_FASTOPEN, nullptr, 0)); }},
    {"FastOpenMessage", [] { return ErrorOf(sendmsg(-1, nullptr, MSG_FASTOPEN)); }},
    {"TypeIntoTerminal", [] { return ErrorOf(ioctl(0, TIOCSTI, "x")); }},
    {"TypeIntoTerminalWide", [] { return ErrorOf(syscall(SYS_ioctl, 0, TIOCSTI | kWide, "x")); }},
};

int GetOption(uint64_t level, uint64_t option) {
  return ErrorOf(syscall(SYS_getsockopt, -1, level, option, nullptr, nullptr));
}

// A porter reads only from the supervisor, so it gets no descriptor from anybody else.
constexpr Attempt kForbiddenToPorter[] = {
    {"Read", [] { return ErrorOf(read(0, nullptr, 0)); }},
    {"ReadInPieces", [] { return ErrorOf(readv(0, nullptr, 0)); }},
    {"Receive", [] { return ErrorOf(recv(5, nullptr, 0, 0)); }},
    {"ReceiveDescriptors", [] { return ErrorOf(recvmsg(5, nullptr, 0)); }},
    {"ReceiveDescriptorsWide", [] { return ErrorOf(syscall(SYS_recvmsg, 5 | kWide, nullptr, 0)); }},
    {"ReceiveSeveral", [] { return ErrorOf(recvmmsg(3, nullptr, 0, 0, nullptr)); }},
// The run-time of AddressSanitizer writes to pipes of its own (sandbox/sanitizer.cc).
#if !defined(__SANITIZE_ADDRESS__)
    {"Write", [] { return ErrorOf(write(5, "", 0)); }},
    {"WriteWide", [] { return ErrorOf(syscall(SYS_write, 5 | kWide, "", 0)); }},
#endif
    {"SendTo", [] { return ErrorOf(sendto(-1, "", 0, 0, nullptr, 0)); }},
    {"Splice", [] { return ErrorOf(splice(-1, nullptr, -1, nullptr, 1, 0)); }},
    {"Shutdown", [] { return ErrorOf(shutdown(-1, SHUT_RDWR)); }},
    {"Duplicate", [] { return ErrorOf(dup(0)); }},
    {"AcceptOldStyle", [] { return ErrorOf(syscall(SYS_accept, -1, nullptr, nullptr)); }},
    {"Pair",
     [] {
       int p[2];
       return ErrorOf(socketpair(AF_UNIX, SOCK_STREAM, 0, p));
     }},
    {"PeerProcess", [] { return GetOption(SOL_SOCKET, 77); }},  // SO_PEERPIDFD
    {"OtherOption", [] { return GetOption(SOL_SOCKET, SO_PEERSEC); }},
    {"OtherLevel", [] { return GetOption(IPPROTO_TCP, SO_TYPE); }},
    {"SetOption", [] { return ErrorOf(setsockopt(-1, SOL_SOCKET, SO_TYPE, 0, 0)); }},
    {"Ioctl", [] { return ErrorOf(ioctl(0, FIONREAD, nullptr)); }},
    // The porter of the status socket has a pidfd of the supervisor.
    {"SignalByDescriptor",
     [] { return ErrorOf(syscall(SYS_pidfd_send_signal, -1, 0, nullptr, 0)); }},
    {"DescriptorByDescriptor", [] { return ErrorOf(syscall(SYS_pidfd_getfd, -1, 0, 0)); }},
    {"NamespacesByDescriptor", [] { return ErrorOf(setns(-1, 0)); }},
};

class Forbidden : public testing::TestWithParam<std::tuple<Role, SupervisorIs, Attempt>> {};

TEST_P(Forbidden, Kills) {
  const auto& [role, supervisor, attempt] = GetParam();
  if (supervisor == SupervisorIs::kRoot && geteuid() != 0) GTEST_SKIP() << "needs root";
  const Outcome expected = attempt.run == Int80Getpid ? KilledByInt80() : Killed(SIGSYS);
  EXPECT_EQ(Wait(StartRole(role, supervisor, attempt.run)), expected);
}

// Tries all option numbers, at the levels at which some options are allowed.
TEST(HandshakerOptions, AreTheseAndNoOthers) {
  using Option = std::tuple<int, int, int>;  // call, level, name
  const std::set<Option> allowed = {
      {SYS_getsockopt, SOL_SOCKET, SO_DOMAIN},     {SYS_getsockopt, SOL_SOCKET, SO_TYPE},
      {SYS_getsockopt, SOL_SOCKET, SO_PROTOCOL},   {SYS_getsockopt, SOL_SOCKET, SO_ACCEPTCONN},
      {SYS_getsockopt, SOL_SOCKET, SO_COOKIE},     {SYS_getsockopt, SOL_SOCKET, SO_ERROR},
      {SYS_getsockopt, SOL_TLS, TLS_TX},           {SYS_getsockopt, SOL_TLS, TLS_RX},
      {SYS_setsockopt, IPPROTO_TCP, TCP_NODELAY},  {SYS_setsockopt, IPPROTO_TCP, TCP_CORK},
      {SYS_setsockopt, IPPROTO_TCP, TCP_ULP},      {SYS_setsockopt, SOL_TLS, TLS_TX},
      {SYS_setsockopt, SOL_TLS, TLS_RX},           {SYS_setsockopt, SOL_SOCKET, SO_KEEPALIVE},
      {SYS_setsockopt, IPPROTO_TCP, TCP_KEEPIDLE}, {SYS_setsockopt, IPPROTO_TCP, TCP_KEEPINTVL},
      {SYS_setsockopt, IPPROTO_TCP, TCP_KEEPCNT},  {SYS_setsockopt, IPPROTO_TCP, TCP_USER_TIMEOUT},
      {SYS_setsockopt, IPPROTO_TCP, TCP_QUICKACK}};
  constexpr int kMoreThanThereAre = 96;
  testing::internal::CaptureStderr();  // hundreds of messages about what this machine does not
                                       // support
  for (const int call : {SYS_getsockopt, SYS_setsockopt}) {
    for (const int level : {SOL_SOCKET, int{IPPROTO_TCP}, SOL_TLS}) {
      for (int name = 0; name < kMoreThanThereAre; ++name) {
        const auto attempt = [&] {
          syscall(call, -1, level, name, nullptr, 0);
          return 0;
        };
        const bool may = allowed.contains({call, level, name});
        EXPECT_EQ(Wait(StartRole(kHandshaker, SupervisorIs::kUser, attempt)),
                  may ? kSucceeded : Killed(SIGSYS))
            << call << " " << level << " " << name;
      }
    }
  }
  (void)testing::internal::GetCapturedStderr();
}

constexpr auto kSupervisors = {SupervisorIs::kRoot, SupervisorIs::kUser};
constexpr auto kName = [](const auto& test) {
  return std::string(std::get<0>(test.param).name) +
         (std::get<1>(test.param) == SupervisorIs::kRoot ? "Root" : "User") +
         std::get<2>(test.param).name;
};
INSTANTIATE_TEST_SUITE_P(
    All, Forbidden,
    testing::Combine(testing::Values(kKeyholder, kHandshaker, kLogger, kPorter),
                     testing::ValuesIn(kSupervisors), testing::ValuesIn(kForbidden)),
    kName);
INSTANTIATE_TEST_SUITE_P(
    Both, Forbidden,
    testing::Combine(testing::Values(kKeyholder, kHandshaker, kLogger),
                     testing::ValuesIn(kSupervisors),
                     testing::ValuesIn(kForbiddenToKeyholderHandshakerAndLogger)),
    kName);
INSTANTIATE_TEST_SUITE_P(Else, Forbidden,
                         testing::Combine(testing::Values(kPorter), testing::ValuesIn(kSupervisors),
                                          testing::ValuesIn(kForbiddenToPorter)),
                         kName);
INSTANTIATE_TEST_SUITE_P(More, Forbidden,
                         testing::Combine(testing::Values(kKeyholder, kLogger),
                                          testing::ValuesIn(kSupervisors),
                                          testing::ValuesIn(kForbiddenToKeyholderAndLogger)),
                         kName);
INSTANTIATE_TEST_SUITE_P(Keyholders, Forbidden,
                         testing::Combine(testing::Values(kKeyholder),
                                          testing::ValuesIn(kSupervisors),
                                          testing::ValuesIn(kForbiddenToKeyholder)),
                         kName);
INSTANTIATE_TEST_SUITE_P(Options, Forbidden,
                         testing::Combine(testing::Values(kHandshaker),
                                          testing::ValuesIn(kSupervisors),
                                          testing::ValuesIn(kForbiddenOptions)),
                         kName);
INSTANTIATE_TEST_SUITE_P(Further, Forbidden,
                         testing::Combine(testing::Values(kHandshaker),
                                          testing::ValuesIn(kSupervisors),
                                          testing::ValuesIn(kForbiddenToHandshaker)),
                         kName);

INSTANTIATE_TEST_SUITE_P(Logger, Forbidden,
                         testing::Combine(testing::Values(kLogger), testing::ValuesIn(kSupervisors),
                                          testing::ValuesIn(kForbiddenToLogger)),
                         kName);

}  // namespace
}  // namespace tlsbroker
