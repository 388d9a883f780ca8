#include "broker/handshaker/relay.h"

#include <sys/socket.h>

#include <array>
#include <asio/experimental/awaitable_operators.hpp>
#include <asio/redirect_error.hpp>
#include <asio/use_awaitable.hpp>
#include <cerrno>
#include <vector>

#include "broker/handshaker/ktls_socket.h"
#include "broker/handshaker/ticket_keys.h"
#include "protocol/channel.h"

namespace tlsbroker {
namespace {

// One buffer for the whole process, which has one thread: it is full only between two suspensions.
// What cannot be passed on at once is copied away, so an idle connection holds no buffer.
std::span<uint8_t> Scratch() {
  static std::array<uint8_t, 64 * 1024> scratch;
  return scratch;
}

struct SslResult {
  size_t size = 0;
  int error = SSL_ERROR_NONE;
};

SslResult Read(SSL* ssl, std::span<uint8_t> buffer) {
  SslResult result;
  ERR_clear_error();
  const int ok = SSL_read_ex(ssl, buffer.data(), buffer.size(), &result.size);
  if (ok != 1) result.error = SSL_get_error(ssl, ok);
  return result;
}

SslResult Write(SSL* ssl, std::span<const uint8_t> bytes) {
  SslResult result;
  ERR_clear_error();
  const int ok = SSL_write_ex(ssl, bytes.data(), bytes.size(), &result.size);
  if (ok != 1) result.error = SSL_get_error(ssl, ok);
  return result;
}

// SendAll() for bytes that do not outlive a suspension.
asio::awaitable<bool> SendCopy(AsyncFd& socket, std::span<const uint8_t> bytes) {
  const ssize_t n = send(socket.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
  if (n == static_cast<ssize_t>(bytes.size())) co_return true;
  if (n < 0 && errno != EAGAIN) co_return false;
  const auto rest = bytes.subspan(n < 0 ? 0 : static_cast<size_t>(n));
  const std::vector<uint8_t> kept(rest.begin(), rest.end());
  co_return co_await SendAll(socket, kept);
}

}  // namespace

Relay::Relay(const asio::any_io_executor& executor, AsyncFd client, SslPtr ssl, Sealer sealer,
             AsyncFd worker)
    : client_(std::move(client)),
      ssl_(std::move(ssl)),
      sealer_(sealer),
      worker_(std::move(worker)),
      linger_(executor) {
  SSL_set_rfd(ssl_.get(), client_.get());
  if (sealer_ == Sealer::kOpenssl) {
    SSL_set_wfd(ssl_.get(), client_.get());
  } else {
    SSL_set0_wbio(ssl_.get(), BIO_new(BIO_s_null()));  // alerts that OpenSSL would send
  }
  // Whole records with one read(2): from now on all that comes is for this object.
  SSL_set_read_ahead(ssl_.get(), 1);
  SSL_set_msg_callback(ssl_.get(), &Relay::OnMessage);
  SSL_set_msg_callback_arg(ssl_.get(), this);
}

asio::awaitable<void> Relay::Run() {
  using namespace asio::experimental::awaitable_operators;  // NOLINT: Asio's && for coroutines
  co_await (ClientToWorker() && WorkerToClient());
}

void Relay::Abort() {
  linger_.cancel();
  client_.Cancel();
  worker_.Cancel();
}

asio::awaitable<bool> Relay::WaitForClient(int ssl_error) {
  if (ssl_error == SSL_ERROR_WANT_READ) co_return co_await client_.WaitReadable();
  if (ssl_error == SSL_ERROR_WANT_WRITE) co_return co_await client_.WaitWritable();
  co_return false;
}

asio::awaitable<void> Relay::ClientToWorker() {
  while (true) {
    const SslResult read = Read(ssl_.get(), Scratch());
    if (refused_) {
      SendFailure();
      break;
    }
    if (read.error == SSL_ERROR_ZERO_RETURN) {
      // The authenticated end. Our end of the pair stays open: its close would mean truncation.
      client_ended_ = true;
      shutdown(worker_.get(), SHUT_WR);
      if (worker_closed_) break;
      co_return;
    }
    if (read.error != SSL_ERROR_NONE) {
      if (!co_await WaitForClient(read.error)) break;
      continue;
    }
    // Asking for more after a short record mostly costs a call and a buffer that say "nothing".
    const bool drained = read.size < SSL3_RT_MAX_PLAIN_LENGTH && SSL_has_pending(ssl_.get()) == 0;
    if (!worker_closed_) {
      const bool passed_on = co_await SendCopy(worker_, Scratch().first(read.size));
      // A worker that has ended may leave without reading the rest; WorkerToClient sees it go.
      if (!passed_on && !worker_ended_) break;
    }
    if (drained && !co_await client_.WaitReadable()) break;
  }
  Abort();
}

asio::awaitable<void> Relay::WorkerToClient() {
  while (true) {
    channel::StreamRead read;
    const channel::Result result = channel::ReceiveStream(worker_.get(), Scratch(), read);
    if (result == channel::Result::kWouldBlock) {
      if (!co_await worker_.WaitReadable()) co_return;
      continue;
    }
    if (result != channel::Result::kOk) break;
    if (worker_ended_) continue;  // nothing counts behind END
    const bool drained = read.size < Scratch().size();
    if (read.size > 0 && !co_await WriteToClient(Scratch().first(read.size))) co_return Abort();
    if (!read.end) {
      if (drained && !co_await worker_.WaitReadable()) co_return;
      continue;
    }
    worker_ended_ = true;
    if (!co_await SendCloseNotify()) co_return Abort();
  }
  co_await WorkerClosed();
}

// Without END the client gets no close_notify: it must not take a part for the whole.
asio::awaitable<void> Relay::WorkerClosed() {
  worker_closed_ = true;
  if (!worker_ended_ && !client_.cancelled()) SendFailure();
  if (!worker_ended_ || client_ended_ || client_.cancelled()) co_return Abort();
  asio::error_code ended_before;
  linger_.expires_after(kRelayLinger);
  co_await linger_.async_wait(asio::redirect_error(asio::use_awaitable, ended_before));
  Abort();
}

// OpenSSL sends an alert for what it finds wrong itself, and has no function for another one. So
// something goes wrong: in TLS 1.3 a further ticket cannot be made (internal_error); in TLS 1.2,
// where tickets are a matter of the handshake, and for a client, a record does not authenticate
// (bad_record_mac).
void Relay::SendFailure() {
  ERR_clear_error();
  if (sealer_ == Sealer::kKernel) {
    (void)SendAlertRecord(client_.get(), SSL3_AL_FATAL, SSL_AD_INTERNAL_ERROR);
  } else if (SSL_version(ssl_.get()) == TLS1_3_VERSION && SSL_is_server(ssl_.get()) == 1) {
    TicketKeyring::Refuse(ssl_.get());
    if (SSL_new_session_ticket(ssl_.get()) == 1) (void)SSL_do_handshake(ssl_.get());
  } else {
    static constexpr std::array<uint8_t, 5 + 32> kNoRecord = {SSL3_RT_APPLICATION_DATA, 3, 3, 0,
                                                              32};
    SSL_set0_rbio(ssl_.get(), BIO_new_mem_buf(kNoRecord.data(), kNoRecord.size()));
    (void)Read(ssl_.get(), Scratch());
  }
}

asio::awaitable<bool> Relay::WriteToClient(std::span<const uint8_t> bytes) {
  return sealer_ == Sealer::kKernel ? SendCopy(client_, bytes) : WriteByOpenssl(bytes);
}

asio::awaitable<bool> Relay::WriteByOpenssl(std::span<const uint8_t> bytes) {
  std::vector<uint8_t> kept;
  while (!bytes.empty()) {
    const SslResult written = Write(ssl_.get(), bytes);
    bytes = bytes.subspan(written.size);
    if (written.error == SSL_ERROR_NONE) continue;
    if (kept.empty()) {
      kept.assign(bytes.begin(), bytes.end());
      bytes = kept;
    }
    if (!co_await WaitForClient(written.error)) co_return false;
  }
  co_return true;
}

asio::awaitable<bool> Relay::SendCloseNotify() {
  asio::awaitable<bool> sending =
      sealer_ == Sealer::kKernel ? KernelCloseNotify() : OpensslCloseNotify();
  const bool sent = co_await std::move(sending);
  if (sent) shutdown(client_.get(), SHUT_WR);
  co_return sent;
}

asio::awaitable<bool> Relay::OpensslCloseNotify() {
  while (true) {
    ERR_clear_error();
    const int result = SSL_shutdown(ssl_.get());
    if (result >= 0) co_return true;  // 0: sent, the client's is still to come
    if (!co_await WaitForClient(SSL_get_error(ssl_.get(), result))) co_return false;
  }
}

asio::awaitable<bool> Relay::KernelCloseNotify() {
  while (true) {
    const int error = SendAlertRecord(client_.get(), SSL3_AL_WARNING, SSL_AD_CLOSE_NOTIFY);
    if (error == 0) co_return true;
    if (error != EAGAIN || !co_await client_.WaitWritable()) co_return false;
  }
}

void Relay::OnMessage(int is_write, int /*version*/, int content_type, const void* data,
                      size_t size, SSL* /*ssl*/, void* self) {
  const auto* message = static_cast<const uint8_t*>(data);
  if (is_write != 0 || content_type != SSL3_RT_HANDSHAKE || size == 0) return;
  if (message[0] != SSL3_MT_KEY_UPDATE) return;
  const bool answer_requested = message[size - 1] == SSL_KEY_UPDATE_REQUESTED;
  static_cast<Relay*>(self)->OnKeyUpdate(answer_requested);
}

void Relay::OnKeyUpdate(bool answer_requested) {
  // RFC 8446 section 4.6.3 wants an answer, and the keys to send it with are in the kernel.
  if (answer_requested && sealer_ == Sealer::kKernel) refused_ = true;
  const auto now = std::chrono::steady_clock::now();
  if (now - key_updates_since_ > std::chrono::seconds(1)) {
    key_updates_since_ = now;
    key_updates_ = 0;
  }
  if (++key_updates_ > kMaxKeyUpdatesPerSecond) refused_ = true;
}

}  // namespace tlsbroker
