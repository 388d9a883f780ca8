// SPDX-License-Identifier: Apache-2.0
// A child that is still a copy of the supervisor must not run its signal handlers, which write to
// descriptors that are something else there. Runs in the supervisor.

#ifndef TLSBROKER_BROKER_SUPERVISOR_SIGNALS_BLOCKED_H_
#define TLSBROKER_BROKER_SUPERVISOR_SIGNALS_BLOCKED_H_

#include <signal.h>

namespace tlsbroker::supervisor {

// Signals are blocked while this lives. In a child that is made meanwhile they stay blocked until
// the child changes that.
class SignalsBlocked {
 public:
  SignalsBlocked() {
    sigset_t all;
    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, &saved_);
  }
  SignalsBlocked(const SignalsBlocked&) = delete;
  SignalsBlocked& operator=(const SignalsBlocked&) = delete;
  ~SignalsBlocked() { sigprocmask(SIG_SETMASK, &saved_, nullptr); }

 private:
  sigset_t saved_;
};

}  // namespace tlsbroker::supervisor

#endif  // TLSBROKER_BROKER_SUPERVISOR_SIGNALS_BLOCKED_H_
