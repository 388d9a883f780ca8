// `status` in the runtime directory: whoever may connect gets the broker's state as one JSON
// object, and then the end of the stream. Runs in the supervisor, which reads nothing from them.

#ifndef TLSBROKER_BROKER_SUPERVISOR_STATUS_SOCKET_H_
#define TLSBROKER_BROKER_SUPERVISOR_STATUS_SOCKET_H_

#include <asio/any_io_executor.hpp>
#include <asio/awaitable.hpp>
#include <functional>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "broker/supervisor/event_loop.h"
#include "broker/supervisor/unix_listener.h"

namespace tlsbroker::supervisor {

class StatusSocket {
 public:
  // Only for the user who started the broker: it names processes, peers' counts and certificates.
  static absl::StatusOr<std::unique_ptr<StatusSocket>> Open(const asio::any_io_executor& executor,
                                                            const std::string& runtime_dir,
                                                            std::function<std::string()> report);
  StatusSocket(const StatusSocket&) = delete;
  StatusSocket& operator=(const StatusSocket&) = delete;

  asio::awaitable<void> Serve();

 private:
  StatusSocket(const asio::any_io_executor& executor, UnixListener listener,
               std::function<std::string()> report);

  asio::any_io_executor executor_;
  UnixListener listener_;
  Watch watch_;
  const std::function<std::string()> report_;
};

}  // namespace tlsbroker::supervisor

#endif  // TLSBROKER_BROKER_SUPERVISOR_STATUS_SOCKET_H_
