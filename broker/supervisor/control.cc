#include "broker/supervisor/control.h"

#include <utility>

#include "broker/support/secret_bytes.h"
#include "protocol/channel.h"

namespace tlsbroker::supervisor {
namespace {

// Some messages carry ticket keys.
class EncodedMessage {
 public:
  explicit EncodedMessage(const supervision::Message& message)
      : encoded_(supervision::Encode(message)) {}
  EncodedMessage(const EncodedMessage&) = delete;
  EncodedMessage& operator=(const EncodedMessage&) = delete;
  ~EncodedMessage() { Wipe(encoded_.bytes.data(), encoded_.bytes.size()); }

  channel::Result SendTo(int socket) const {
    return channel::Send(socket, encoded_.bytes, encoded_.fds, /*dont_wait=*/true);
  }

 private:
  supervision::Encoded encoded_;
};

}  // namespace

ControlChannel::ControlChannel(const asio::any_io_executor& executor, UniqueFd socket)
    : socket_(std::move(socket)), watch_(executor, socket_.get()) {}

asio::awaitable<bool> ControlChannel::Send(const supervision::Message& message) {
  const EncodedMessage encoded(message);
  while (socket_) {
    const channel::Result result = encoded.SendTo(socket_.get());
    if (result == channel::Result::kOk) co_return true;
    if (result != channel::Result::kWouldBlock) co_return false;
    if (!co_await watch_.Writable()) co_return false;
  }
  co_return false;
}

bool ControlChannel::SendNow(const supervision::Message& message) {
  return socket_ && EncodedMessage(message).SendTo(socket_.get()) == channel::Result::kOk;
}

asio::awaitable<std::optional<supervision::Message>> ControlChannel::Receive() {
  channel::Message message;
  while (socket_) {
    const channel::Result result = channel::Receive(socket_.get(), supervision::kMaxMessage,
                                                    /*max_fds=*/0, message, /*dont_wait=*/true);
    if (result == channel::Result::kOk) co_return supervision::Decode(message.bytes, {});
    if (result != channel::Result::kWouldBlock) co_return std::nullopt;
    if (!co_await watch_.Readable()) co_return std::nullopt;
  }
  co_return std::nullopt;
}

void ControlChannel::Close() {
  watch_.Cancel();
  socket_.Reset();
}

}  // namespace tlsbroker::supervisor
