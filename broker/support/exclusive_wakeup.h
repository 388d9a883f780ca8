// SPDX-License-Identifier: Apache-2.0
// For a descriptor that several processes wait for: an event wakes one of them. Otherwise each
// connection would wake all handshakers, though only one of them gets it.

#ifndef TLSBROKER_BROKER_SUPPORT_EXCLUSIVE_WAKEUP_H_
#define TLSBROKER_BROKER_SUPPORT_EXCLUSIVE_WAKEUP_H_

namespace tlsbroker {

// A descriptor that Asio takes into its event loop while this object exists, in this thread, is
// watched with EPOLLEXCLUSIVE (epoll_ctl(2)), for reading only. A wait that begins at once sees
// what is there already, later ones only what comes after them. A process that does not wait has to
// take the descriptor out of the event loop again; otherwise an event wakes this process and none
// that waits.
class ExclusiveWakeup {
 public:
  ExclusiveWakeup();
  ~ExclusiveWakeup();
  ExclusiveWakeup(const ExclusiveWakeup&) = delete;
  ExclusiveWakeup& operator=(const ExclusiveWakeup&) = delete;
};

}  // namespace tlsbroker

#endif  // TLSBROKER_BROKER_SUPPORT_EXCLUSIVE_WAKEUP_H_
