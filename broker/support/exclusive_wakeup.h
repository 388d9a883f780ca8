// For a descriptor that several processes wait for: an event wakes one of them. Else each
// connection would wake all handshakers, of which one gets it.

#ifndef TLSBROKER_BROKER_SUPPORT_EXCLUSIVE_WAKEUP_H_
#define TLSBROKER_BROKER_SUPPORT_EXCLUSIVE_WAKEUP_H_

namespace tlsbroker {

// What Asio takes into its event loop while this object exists, in this thread, is watched with
// EPOLLEXCLUSIVE (epoll_ctl(2)), for reading only: a wait that begins at once sees what is there
// already, later ones only what comes after them. Whoever does not wait has to take it out of the
// event loop again, or an event wakes him and nobody who does.
class ExclusiveWakeup {
 public:
  ExclusiveWakeup();
  ~ExclusiveWakeup();
  ExclusiveWakeup(const ExclusiveWakeup&) = delete;
  ExclusiveWakeup& operator=(const ExclusiveWakeup&) = delete;
};

}  // namespace tlsbroker

#endif  // TLSBROKER_BROKER_SUPPORT_EXCLUSIVE_WAKEUP_H_
