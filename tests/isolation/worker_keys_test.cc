// SPDX-License-Identifier: Apache-2.0
// A confined worker holds a connection with kernel TLS and wants its keys (KTLS.md, "Who can read
// the keys"). Without kTLS in the kernel the denials are tested all the same, since they come
// before the kernel looks at the socket; only the guests then show that the attacks work.

#include <signal.h>
#include <stdlib.h>

#include <string_view>

#include "tests/isolation/worker_fixture.h"

namespace tlsbroker {
namespace {

class WorkerKeys : public WorkerTest {
 protected:
  // In the guests TLSBROKER_EXPECT says what their kernel can do.
  static bool KernelRekeys() {
    const char* expected = getenv("TLSBROKER_EXPECT");
    return expected != nullptr &&
           std::string_view(expected).find("rekey") != std::string_view::npos;
  }
};

// 282 as it is, and with other bits set that the kernel ignores.
constexpr const char* kLevels[] = {"282", "0x10000011a", "0xffffffff0000011a", "-4294967014",
                                   "0x800000000000011a"};

TEST_P(WorkerKeys, GetKeys) {
  for (const char* level : kLevels) ExpectDenied(Refused(EPERM), {"get-keys", level});
}

TEST_P(WorkerKeys, SetKeys) {
  for (const char* level : kLevels) {
    EXPECT_EQ(Confined({"set-keys", level}), Refused(EPERM)) << level;
  }
}

TEST_P(WorkerKeys, GetKeysFromDuplicate) {
  ExpectDenied(Refused(EPERM), {"get-keys-from-duplicate"});
}

TEST_P(WorkerKeys, GetKeysInChild) { ExpectDenied(Refused(EPERM), {"get-keys-in-child"}); }

TEST_P(WorkerKeys, GetKeysAfterExec) {
  ExpectDenied(Refused(EPERM), {"get-keys-after-exec", attacker()});
}

TEST_P(WorkerKeys, GetKeysInAnotherProcessThatGotTheSocket) {
  ExpectDenied(Refused(EPERM), {"get-keys-after-passing"});
}

TEST_P(WorkerKeys, GetKeysByInt80) { ExpectDenied(KilledByInt80(), {"get-keys-by-int80"}); }

TEST_P(WorkerKeys, GetKeysBySocketcall) {
  ExpectDenied(KilledByInt80(), {"get-keys-by-socketcall"});
}

// No stock kernel has x32 switched on (syscall.x32), so there is no unconfined run that succeeds.
TEST_P(WorkerKeys, GetKeysByX32) {
  EXPECT_EQ(Confined({"get-keys-by-x32"}), Killed(SIGSYS));
  EXPECT_EQ(Unconfined({"get-keys-by-x32"}).signal, 0);
}

TEST_P(WorkerKeys, IoUring) {
  EXPECT_EQ(Confined({"io-uring-enter"}), Refused(EPERM));
  EXPECT_EQ(Confined({"io-uring-register"}), Refused(EPERM));
  ExpectDenied(Refused(EPERM), {"io-uring-setup"});
}

// Where the kernel changes keys, it also does so by io_uring, past any filter of setsockopt.
TEST_P(WorkerKeys, SetKeysByIoUring) {
  if (KernelRekeys()) {
    EXPECT_EQ(Unconfined({"set-keys", "282"}), kSucceeded);
    return ExpectDenied(Refused(EPERM), {"io-uring-set-keys"});
  }
  EXPECT_EQ(Confined({"io-uring-set-keys"}), Refused(EPERM));
}

TEST_P(WorkerKeys, SetUlp) {
  for (const char* level : {"6", "0x100000006"}) {
    for (const char* option : {"31", "0x10000001f"}) {
      EXPECT_EQ(Confined({"set-ulp", level, option}), Refused(EPERM));
    }
  }
}

INSTANTIATE_TEST_SUITE_P(As, WorkerKeys,
                         testing::Values(SupervisorIs::kRoot, SupervisorIs::kUser,
                                         SupervisorIs::kRootAndStrict),
                         SupervisorName);

}  // namespace
}  // namespace tlsbroker
