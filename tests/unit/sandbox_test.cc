// SPDX-License-Identifier: Apache-2.0
// The building blocks of confinement; each is tested in a child of its own.

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <pthread.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <functional>
#include <utility>

#include "broker/sandbox/capabilities.h"
#include "broker/sandbox/landlock.h"
#include "broker/sandbox/machine.h"
#include "broker/sandbox/process_limits.h"
#include "broker/sandbox/seccomp_filter.h"
#include "broker/sandbox/user.h"

namespace tlsbroker::sandbox {
namespace {

using testing::HasSubstr;

// The exit status of a child, or 256 + the signal that ended it.
int InChild(const std::function<int()>& body) {
  const pid_t child = fork();
  if (child == 0) _exit(body());
  int status = 0;
  waitpid(child, &status, 0);
  return WIFSIGNALED(status) ? 256 + WTERMSIG(status) : WEXITSTATUS(status);
}

constexpr int kDenied = 99;

// The errno of getpriority(99, argument) under a filter that `add` made; the kernel itself gives
// EINVAL.
int UnderFilter(uint64_t argument, const std::function<void(SeccompFilter&)>& add) {
  return InChild([&] {
    SeccompFilter filter = SeccompFilter::DenyList();
    add(filter);
    if (!SetNoNewPrivileges().ok() || !filter.Load().ok()) return 1;
    const long result = syscall(SYS_getpriority, 99, argument);
    return result < 0 && errno == kDenied ? kDenied : 0;
  });
}

constexpr unsigned long long kWide = 1ULL << 32;

TEST(SeccompFilter, IsComparesThirtyTwoBits) {
  const auto deny = [](SeccompFilter& filter) {
    filter.Deny(kDenied, SCMP_SYS(getpriority), {Is(1, 282)});
  };
  EXPECT_EQ(UnderFilter(282, deny), kDenied);
  EXPECT_EQ(UnderFilter(282 | kWide, deny), kDenied);
  EXPECT_EQ(UnderFilter(282 | 0xffffffffULL << 32, deny), kDenied);
  EXPECT_EQ(UnderFilter(281, deny), 0);
  EXPECT_EQ(UnderFilter(0, deny), 0);
}

TEST(SeccompFilter, IsTakesNegativeValues) {
  const auto deny = [](SeccompFilter& filter) {
    filter.Deny(kDenied, SCMP_SYS(getpriority), {Is(1, -1)});
  };
  EXPECT_EQ(UnderFilter(0xffffffff, deny), kDenied);
  EXPECT_EQ(UnderFilter(~0ULL, deny), kDenied);
  EXPECT_EQ(UnderFilter(0x7fffffff, deny), 0);
}

TEST(SeccompFilter, HasAndHasNot) {
  const auto deny_set = [](SeccompFilter& filter) {
    filter.Deny(kDenied, SCMP_SYS(getpriority), {Has(1, 6)});
  };
  EXPECT_EQ(UnderFilter(6, deny_set), kDenied);
  EXPECT_EQ(UnderFilter(7 | kWide, deny_set), kDenied);
  EXPECT_EQ(UnderFilter(4, deny_set), 0);
  const auto deny_clear = [](SeccompFilter& filter) {
    filter.Deny(kDenied, SCMP_SYS(getpriority), {HasNot(1, 6)});
  };
  EXPECT_EQ(UnderFilter(1, deny_clear), kDenied);
  EXPECT_EQ(UnderFilter(2, deny_clear), 0);
}

TEST(SeccompFilter, DenyUnlessLeavesExactlyTheValues) {
  const auto deny = [](SeccompFilter& filter) {
    filter.DenyUnless(kDenied, SCMP_SYS(getpriority), 1, {1, 10, 63});
  };
  for (const uint64_t value : {1ULL, 10ULL, 63ULL, 10 | kWide}) {
    EXPECT_EQ(UnderFilter(value, deny), 0) << value;
  }
  for (const uint64_t value : {0ULL, 2ULL, 9ULL, 11ULL, 64ULL, 65ULL, 1ULL << 31, 2 | kWide}) {
    EXPECT_EQ(UnderFilter(value, deny), kDenied) << value;
  }
}

TEST(SeccompFilter, RowsOfOneCallAreAlternatives) {
  const auto deny = [](SeccompFilter& filter) {
    filter.Deny(kDenied, SCMP_SYS(getpriority), {Is(0, 98), Is(1, 1)})
        .Deny(kDenied, SCMP_SYS(getpriority), {Is(0, 99), Is(1, 2)});
  };
  EXPECT_EQ(UnderFilter(1, deny), 0);
  EXPECT_EQ(UnderFilter(2, deny), kDenied);
}

TEST(SeccompFilter, AllowListKills) {
  const int status = InChild([]() -> int {
    SeccompFilter filter = SeccompFilter::AllowList();
    filter.Allow(SCMP_SYS(exit_group));
    if (!SetNoNewPrivileges().ok() || !filter.Load().ok()) return 1;
    return static_cast<int>(syscall(SYS_getpriority, 0, 0));
  });
  EXPECT_EQ(status, 256 + SIGSYS);
}

// A list of pairs, as for socket options by level and name.
TEST(SeccompFilter, AllowListOfPairs) {
  const auto call = [](uint64_t level, uint64_t name) {
    return InChild([&]() -> int {
      SeccompFilter filter = SeccompFilter::AllowList();
      filter.Allow(SCMP_SYS(exit_group))
          .Allow(SCMP_SYS(getpriority), {Is(0, 98), Is(1, 1)})
          .Allow(SCMP_SYS(getpriority), {Is(0, 99), Is(1, 2)});
      if (!SetNoNewPrivileges().ok() || !filter.Load().ok()) return 1;
      syscall(SYS_getpriority, level, name);
      // Ends at once: the run-time of a sanitizer would act when objects here are destroyed, and
      // may make no system call.
      return static_cast<int>(syscall(SYS_exit_group, 0));
    });
  };
  EXPECT_EQ(call(98, 1), 0);
  EXPECT_EQ(call(99 | kWide, 2 | kWide), 0) << "the kernel takes it for the same";
  for (const auto& [level, name] : {std::pair(98, 2), {99, 1}, {98, 0}, {0, 1}, {97, 1}, {99, 3}}) {
    for (const uint64_t high : {0ULL, kWide, 0xffffffffULL << 32}) {
      EXPECT_EQ(call(high | static_cast<uint64_t>(level), high | static_cast<uint64_t>(name)),
                256 + SIGSYS)
          << level << " " << name << " " << high;
    }
  }
}

TEST(SeccompFilter, ReportsTheFirstError) {
  SeccompFilter filter = SeccompFilter::DenyList();
  filter.Deny(EPERM, SCMP_SYS(read), {Is(7, 0)}).Deny(EPERM, SCMP_SYS(write), {Is(0, 1)});
  EXPECT_FALSE(filter.Load().ok());
}

TEST(Landlock, NamesTheMissingPath) {
  absl::StatusOr<Landlock> files = Landlock::Create(Landlock::Network::kAny);
  ASSERT_TRUE(files.ok()) << files.status();
  const absl::Status missing = files->Allow("/nowhere/at/all", Landlock::Access::kRead);
  EXPECT_THAT(std::string(missing.message()), HasSubstr("/nowhere/at/all"));
  EXPECT_TRUE(files->AllowIfPresent("/nowhere/at/all", Landlock::Access::kRead).ok());
}

TEST(Landlock, LeavesOnlyWhatWasAllowed) {
  if (Landlock::Version() == 0) GTEST_SKIP() << "this kernel has no Landlock";
  const int status = InChild([]() -> int {
    absl::StatusOr<Landlock> files = Landlock::Create(Landlock::Network::kNone);
    if (!files.ok() || !files->Allow("/usr", Landlock::Access::kRead).ok()) return 1;
    if (!files->Allow("/dev/null", Landlock::Access::kReadWrite).ok()) return 2;
    if (!SetNoNewPrivileges().ok() || !files->Enforce().ok()) return 3;
    if (open("/usr", O_RDONLY | O_DIRECTORY) < 0) return 4;
    if (open("/dev/null", O_RDWR) < 0) return 5;
    if (open("/etc/passwd", O_RDONLY) >= 0 || errno != EACCES) return 6;
    if (open("/dev/zero", O_RDONLY) >= 0 || errno != EACCES) return 7;
    return 0;
  });
  EXPECT_EQ(status, 0);
}

TEST(User, RefusesRoot) { EXPECT_FALSE(BecomeUser(0, 1000).ok()); }

TEST(User, CannotComeBack) {
  if (geteuid() != 0) GTEST_SKIP() << "needs root";
  const int status = InChild([]() -> int {
    if (!BecomeUser(61234, 61235).ok()) return 1;
    if (getegid() != 61235 || getgroups(0, nullptr) != 0) return 2;
    return setuid(0) == 0 || setgid(0) == 0 ? 3 : 0;
  });
  EXPECT_EQ(status, 0);
}

TEST(Capabilities, AllFiveSetsEmptied) {
  if (geteuid() != 0) GTEST_SKIP() << "needs root";
  const int status = InChild([]() -> int {
    if (!ForbidGainingCapabilities().ok()) return 1;
    if (!DropCapabilities().ok()) return 2;
    const absl::StatusOr<bool> empty = AllCapabilitySetsEmpty();
    return empty.ok() && *empty ? 0 : 3;
  });
  EXPECT_EQ(status, 0);
}

TEST(ProcessLimits, SecondThreadIsNoticed) {
  EXPECT_TRUE(RequireSingleThread().ok());
  const int status = InChild([]() -> int {
    pthread_t thread;
    const auto sleep = [](void*) -> void* {
      pause();
      return nullptr;
    };
    if (pthread_create(&thread, nullptr, sleep, nullptr) != 0) return 1;
    return RequireSingleThread().ok() ? 2 : 0;
  });
  EXPECT_EQ(status, 0);
}

TEST(ProcessLimits, NoDumps) {
  const int status = InChild([]() -> int {
    if (!ForbidDumps().ok()) return 1;
    return prctl(PR_GET_DUMPABLE);
  });
  EXPECT_EQ(status, 0);
}

}  // namespace
}  // namespace tlsbroker::sandbox
