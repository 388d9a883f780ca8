// SPDX-License-Identifier: Apache-2.0
// A confined worker against other processes and against the kernel.

#include <sched.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>

#include "broker/sandbox/landlock.h"
#include "tests/isolation/worker_fixture.h"

namespace tlsbroker {
namespace {

class WorkerMachine : public WorkerTest {
 protected:
  // An attack whose arguments are this process and an address that exists in it.
  Attack OnThisProcess(const std::string& attack) {
    return {attack, std::to_string(getpid()), std::to_string(reinterpret_cast<uintptr_t>(&byte_))};
  }

 private:
  char byte_ = 0;
};

TEST_P(WorkerMachine, HasNothing) {
  Announcement running;
  const pid_t worker = StartConfined({"stay", std::to_string(running.writer())});
  ASSERT_TRUE(running.Await());
  const std::string user = std::to_string(geteuid() == 0 ? kUnprivilegedUser : geteuid());
  EXPECT_EQ(StatusField(worker, "Uid"), user + "\t" + user + "\t" + user + "\t" + user);
  for (const char* set : {"CapInh", "CapPrm", "CapEff", "CapAmb"}) {
    EXPECT_EQ(StatusField(worker, set), "0000000000000000") << set;
  }
  if (root()) {
    EXPECT_EQ(StatusField(worker, "CapBnd"), "0000000000000000");
    EXPECT_EQ(StatusField(worker, "Groups"), "");
  }
  EXPECT_EQ(StatusField(worker, "NoNewPrivs"), "1");
  EXPECT_EQ(StatusField(worker, "Seccomp"), "2");
  EXPECT_EQ(StatusField(worker, "Seccomp_filters"), strict() ? "2" : "1");
  End(worker);
}

TEST_P(WorkerMachine, SetuidProgram) {
  if (geteuid() != 0) GTEST_SKIP() << "needs root to make a setuid program";
  const std::string program = Path("setuid");
  std::filesystem::copy_file(attacker(), program);
  ASSERT_EQ(chmod(program.c_str(), 04755), 0);
  policy_.program = program;
  EXPECT_EQ(Confined({"be-root"}), Refused(EPERM));
}

TEST_P(WorkerMachine, CapabilitiesAreNotToBeHadByKeepingThem) {
  EXPECT_EQ(Confined({"keep-capabilities"}), strict() ? Refused(EPERM) : kSucceeded)
      << "some servers end if they cannot";
  EXPECT_EQ(Confined({"gain-capabilities"}), Refused(EPERM));
}

TEST_P(WorkerMachine, Ptrace) { ExpectDenied(Refused(EPERM), OnThisProcess("ptrace")); }
TEST_P(WorkerMachine, ReadMemory) { ExpectDenied(Refused(EPERM), OnThisProcess("read-memory")); }
TEST_P(WorkerMachine, WriteMemory) { ExpectDenied(Refused(EPERM), OnThisProcess("write-memory")); }
TEST_P(WorkerMachine, PidfdGetfd) { ExpectDenied(Refused(EPERM), OnThisProcess("pidfd-getfd")); }
// The other process is of another user, or Landlock forbids it.
TEST_P(WorkerMachine, RunnerOfADaemonReachesNoneButItsOwn) {
  policy_.runs_daemon = true;
  policy_.network = true;
  for (const char* attack : {"ptrace", "read-memory", "write-memory", "pidfd-getfd"}) {
    ExpectDenied(Refused(EPERM), OnThisProcess(attack));
  }
}
TEST_P(WorkerMachine, Kcmp) { ExpectDenied(Refused(EPERM), OnThisProcess("kcmp")); }
TEST_P(WorkerMachine, Signal) {
  // The other process is of another user, or out of reach by Landlock's scopes (Linux 6.12).
  if (!root() && sandbox::Landlock::Version() < 6)
    GTEST_SKIP() << "this kernel's Landlock knows no signals";
  ExpectDenied(Refused(EPERM), OnThisProcess("signal"));
}

TEST_P(WorkerMachine, Bpf) { ExpectDenied(Refused(EPERM), {"bpf"}); }
TEST_P(WorkerMachine, PerfEvent) { ExpectDenied(Refused(EPERM), {"perf-event"}); }
TEST_P(WorkerMachine, Userfaultfd) { ExpectDenied(Refused(EPERM), {"userfaultfd"}); }
TEST_P(WorkerMachine, Keyctl) { ExpectDenied(Refused(EPERM), {"keyctl"}); }
TEST_P(WorkerMachine, AddKey) { ExpectDenied(Refused(EPERM), {"add-key"}); }
TEST_P(WorkerMachine, OpenByHandle) { ExpectDenied(Refused(EPERM), {"open-by-handle"}); }
TEST_P(WorkerMachine, Mount) { ExpectDenied(Refused(EPERM), {"mount"}); }
TEST_P(WorkerMachine, OpenTree) { ExpectDenied(Refused(EPERM), {"open-tree"}); }
TEST_P(WorkerMachine, Chroot) { ExpectDenied(Refused(EPERM), {"chroot"}); }
TEST_P(WorkerMachine, Setns) { ExpectDenied(Refused(EPERM), {"setns"}); }

TEST_P(WorkerMachine, UnshareNamespace) {
  ExpectDenied(Refused(EPERM), {"unshare", std::to_string(CLONE_NEWUSER)});
}

TEST_P(WorkerMachine, CloneNamespace) {
  for (const uint64_t flag : {CLONE_NEWNS, CLONE_NEWCGROUP, CLONE_NEWUTS, CLONE_NEWIPC,
                              CLONE_NEWUSER, CLONE_NEWPID, CLONE_NEWNET}) {
    ExpectDenied(Refused(EPERM), {"clone", std::to_string(flag)});
    EXPECT_EQ(Confined({"clone", std::to_string(flag | 1ULL << 32)}), Refused(EPERM));
  }
  EXPECT_EQ(Confined({"clone", "0"}), strict() ? Refused(EPERM) : kSucceeded)
      << "a plain fork is the worker's right, by the default profile";
}

TEST_P(WorkerMachine, Clone3Namespace) { ExpectDenied(Refused(ENOSYS), {"clone3"}); }

TEST_P(WorkerMachine, TypeIntoTerminal) {
  for (const uint64_t request : {TIOCSTI, TIOCLINUX}) {
    EXPECT_EQ(Confined({"type-into-terminal", std::to_string(request)}), Refused(EPERM));
    EXPECT_EQ(Confined({"type-into-terminal", std::to_string(request | 1ULL << 32)}),
              Refused(EPERM));
  }
}

INSTANTIATE_TEST_SUITE_P(As, WorkerMachine,
                         testing::Values(SupervisorIs::kRoot, SupervisorIs::kUser,
                                         SupervisorIs::kRootAndStrict),
                         SupervisorName);

}  // namespace
}  // namespace tlsbroker
