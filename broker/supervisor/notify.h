// Tells the service manager how the broker is: the protocol of sd_notify(3) without its library.
// Runs in the supervisor.

#ifndef TLSBROKER_BROKER_SUPERVISOR_NOTIFY_H_
#define TLSBROKER_BROKER_SUPERVISOR_NOTIFY_H_

#include <string>
#include <string_view>

namespace tlsbroker::supervisor {

class Notifier {
 public:
  // Takes NOTIFY_SOCKET out of the environment. Without it nothing is ever sent.
  Notifier();

  void Ready(std::string_view status) const;
  void Reloading() const;
  void Stopping() const;

 private:
  void Send(const std::string& state) const;

  std::string socket_;
};

}  // namespace tlsbroker::supervisor

#endif  // TLSBROKER_BROKER_SUPERVISOR_NOTIFY_H_
