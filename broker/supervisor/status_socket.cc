#include "broker/supervisor/status_socket.h"

#include <asio/co_spawn.hpp>
#include <asio/detached.hpp>
#include <cerrno>
#include <chrono>
#include <string_view>
#include <utility>

#include "broker/support/status.h"

namespace tlsbroker::supervisor {
namespace {

// One at a time: a reader that does not read must not keep others waiting for long.
constexpr std::chrono::milliseconds kLimit{2'000};
constexpr std::chrono::milliseconds kPause{100};

asio::awaitable<void> EndLater(std::shared_ptr<Watch> watch, std::shared_ptr<Event> written) {
  co_await written->Wait(Clock::now() + kLimit);
  watch->Cancel();
}

asio::awaitable<void> Write(const asio::any_io_executor& executor, const UniqueFd& socket,
                            std::string_view text) {
  const auto watch = std::make_shared<Watch>(executor, socket.get());
  const auto written = std::make_shared<Event>(executor);
  asio::co_spawn(executor, EndLater(watch, written), asio::detached);
  while (!text.empty()) {
    const ssize_t n = send(socket.get(), text.data(), text.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
    if (n < 0 && errno != EAGAIN) break;
    if (n > 0) text.remove_prefix(static_cast<size_t>(n));
    if (n > 0) continue;
    const bool writable = co_await watch->Writable();
    if (!writable) break;
  }
  watch->Cancel();
  written->Notify();
}

}  // namespace

absl::StatusOr<std::unique_ptr<StatusSocket>> StatusSocket::Open(
    const asio::any_io_executor& executor, const std::string& runtime_dir,
    std::function<std::string()> report) {
  ASSIGN_OR_RETURN(UnixListener listener,
                   UnixListener::Open(runtime_dir + "/status", SOCK_STREAM, 0600));
  return std::unique_ptr<StatusSocket>(
      new StatusSocket(executor, std::move(listener), std::move(report)));
}

StatusSocket::StatusSocket(const asio::any_io_executor& executor, UnixListener listener,
                           std::function<std::string()> report)
    : executor_(executor),
      listener_(std::move(listener)),
      watch_(executor, listener_.get()),
      report_(std::move(report)) {}

asio::awaitable<void> StatusSocket::Serve() {
  Event pause(executor_);
  for (;;) {
    const bool readable = co_await watch_.Readable();
    if (!readable) co_return;
    const UniqueFd socket = listener_.Accept();
    if (!socket) {
      co_await pause.Wait(Clock::now() + kPause);
      continue;
    }
    const std::string text = report_();
    co_await Write(executor_, socket, text);
  }
}

}  // namespace tlsbroker::supervisor
