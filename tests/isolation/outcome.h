// SPDX-License-Identifier: Apache-2.0
// The outcome of an attack: it ran in a child of the test, and the kernel allowed it, refused it
// with an error number, or killed the child. For tests only.

#ifndef TLSBROKER_TESTS_ISOLATION_OUTCOME_H_
#define TLSBROKER_TESTS_ISOLATION_OUTCOME_H_

#include <sys/types.h>

#include <cerrno>
#include <functional>
#include <ostream>
#include <string>

#include "protocol/unique_fd.h"

namespace tlsbroker {

// The error number if `result`, of a system call, is a failure; else 0.
inline int ErrorOf(long result) { return result < 0 ? errno : 0; }

// The exit status of a child that could not even start its attack; not an error number.
inline constexpr int kNotStarted = 250;

struct Outcome {
  int error = 0;   // exit status: 0 if the attack succeeded, else the errno that it met
  int signal = 0;  // if not 0, the signal that killed it
  friend bool operator==(const Outcome&, const Outcome&) = default;
};
inline constexpr Outcome kSucceeded{};
inline Outcome Refused(int error) { return {.error = error}; }
inline Outcome Killed(int signal) { return {.signal = signal}; }
void PrintTo(const Outcome& outcome, std::ostream* out);

// Whether the broker was started by root. Each role is tested both ways.
enum class SupervisorIs { kRoot, kUser, kRootAndStrict };  // the last one is for workers only
// A user that owns nothing: the roles become this user, and without root it also starts them.
inline constexpr uid_t kUnprivilegedUser = 61234;
// Called in a child: true if the child is no longer root.
bool DropRoot();

// Starts a child that runs `body` and exits with its result. It dies with the test.
pid_t StartChild(const std::function<int()>& body);
// Waits for the child; after ten seconds it is killed (SIGKILL in the outcome).
Outcome Wait(pid_t child);
inline Outcome RunChild(const std::function<int()>& body) { return Wait(StartChild(body)); }

// Makes a system call in the 32-bit way, by int 0x80 (x86-64).
void CallByInt80();
// The outcome of such a call under a filter that kills for it. On a machine without 32-bit calls
// (ia32_emulation=0, some virtual ones) the kernel ends every process that makes one, before any
// filter.
Outcome KilledByInt80();

// The value of "name:" in /proc/PID/status, without the white space around.
std::string StatusField(pid_t pid, const std::string& name);

// Lets a test wait until its child has reached a certain point. Is made before the child; both use
// it.
class Announcement {
 public:
  Announcement();
  void Announce() const;
  // Announce writes a byte to this descriptor, which survives exec.
  int writer() const { return write_.get(); }
  // For the test: false if the child ended without an announcement.
  bool Await();

 private:
  UniqueFd read_, write_;
};

// For a child that does nothing more until the test ends it.
[[noreturn]] void Stay();
// Ends such a child.
void End(pid_t child);

}  // namespace tlsbroker

#endif  // TLSBROKER_TESTS_ISOLATION_OUTCOME_H_
