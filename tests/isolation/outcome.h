// What became of an attack: it ran in a child of the test, and the kernel let it, refused it with
// an error number, or killed it. For tests only.

#ifndef TLSBROKER_TESTS_ISOLATION_OUTCOME_H_
#define TLSBROKER_TESTS_ISOLATION_OUTCOME_H_

#include <sys/types.h>

#include <cerrno>
#include <functional>
#include <ostream>
#include <string>

#include "protocol/unique_fd.h"

namespace tlsbroker {

// The error number of `result`, a system call's, or 0.
inline int ErrorOf(long result) { return result < 0 ? errno : 0; }

// How a child that could not even start its attack ends; not an error number.
inline constexpr int kNotStarted = 250;

struct Outcome {
  int error = 0;   // of the exit status: 0 the attack succeeded, else the errno that it met
  int signal = 0;  // not 0: it was killed
  friend bool operator==(const Outcome&, const Outcome&) = default;
};
inline constexpr Outcome kSucceeded{};
inline Outcome Refused(int error) { return {.error = error}; }
inline Outcome Killed(int signal) { return {.signal = signal}; }
void PrintTo(const Outcome& outcome, std::ostream* out);

// Whether the broker was started by root. Each role is tested both ways.
enum class SupervisorIs { kRoot, kUser, kRootAndStrict };  // the last for workers alone
// A user that owns nothing; roles become it, and it is who starts them without root.
inline constexpr uid_t kUnprivilegedUser = 61234;
// In a child: true if it is no longer root.
bool DropRoot();

// A child that runs `body` and exits with what it returns. It dies with the test.
pid_t StartChild(const std::function<int()>& body);
// Waits for it; after ten seconds it is killed (SIGKILL in the outcome).
Outcome Wait(pid_t child);
inline Outcome RunChild(const std::function<int()>& body) { return Wait(StartChild(body)); }

// The value of "name:" in /proc/PID/status, without the white space around.
std::string StatusField(pid_t pid, const std::string& name);

// Lets a test wait until its child has reached a point. Made before the child, used by both.
class Announcement {
 public:
  Announcement();
  void Announce() const;
  // Where Announce writes a byte; survives exec.
  int writer() const { return write_.get(); }
  // In the test: false if the child ended without.
  bool Await();

 private:
  UniqueFd read_, write_;
};

// The end of a child that does nothing more until the test ends it.
[[noreturn]] void Stay();
// Ends it.
void End(pid_t child);

}  // namespace tlsbroker

#endif  // TLSBROKER_TESTS_ISOLATION_OUTCOME_H_
