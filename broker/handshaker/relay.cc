#include "broker/handshaker/relay.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <array>
#include <asio/post.hpp>
#include <asio/steady_timer.hpp>
#include <cerrno>
#include <utility>

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
  ClearErrors();
  const int ok = SSL_read_ex(ssl, buffer.data(), buffer.size(), &result.size);
  if (ok != 1) result.error = SSL_get_error(ssl, ok);
  return result;
}

SslResult Write(SSL* ssl, std::span<const uint8_t> bytes) {
  SslResult result;
  ClearErrors();
  const int ok = SSL_write_ex(ssl, bytes.data(), bytes.size(), &result.size);
  if (ok != 1) result.error = SSL_get_error(ssl, ok);
  return result;
}

}  // namespace

Relay::Relay(Shared& shared, AsyncFd client, SslPtr ssl, Sealer sealer, AsyncFd worker)
    : shared_(shared),
      active_(shared),
      client_(std::move(client)),
      ssl_(std::move(ssl)),
      sealer_(sealer),
      worker_(std::move(worker)) {
  ++shared_.counters.relay_active;
}

// Not before the worker has been told: it is what the client waits for.
void Relay::TakeSession() {
  SSL_set_rfd(ssl_.get(), client_.get());
  if (sealer_ == Sealer::kOpenssl) {
    SSL_set_wfd(ssl_.get(), client_.get());
  } else {
    SSL_set0_wbio(ssl_.get(), BIO_new(BIO_s_null()));  // alerts that OpenSSL would send
  }
  // Who is idle keeps no record buffers. In the handshake they were better kept.
  SSL_set_mode(ssl_.get(), SSL_MODE_RELEASE_BUFFERS);
  SSL_free_buffers(ssl_.get());
  // Whole records with one read(2): from now on all that comes is for this object.
  SSL_set_read_ahead(ssl_.get(), 1);
  SSL_set_msg_callback(ssl_.get(), &Relay::OnMessage);
  SSL_set_msg_callback_arg(ssl_.get(), this);
}

// Nothing was read that is not passed on: it is early to look.
void Relay::Start() {
  TakeSession();
  SendTicket();
  Wait(Need::kClientReadable, &Relay::ClientToWorker);
  Wait(Need::kWorkerReadable, &Relay::WorkerToClient);
}

// What there is no room for now goes with what is written next.
void Relay::SendTicket() {
  SSL* const ssl = ssl_.get();
  const bool owed = SSL_is_server(ssl) == 1 && SSL_version(ssl) == TLS1_3_VERSION &&
                    SSL_get_num_tickets(ssl) == 0;
  if (!owed) return;
  ClearErrors();
  if (SSL_new_session_ticket(ssl) == 1) (void)SSL_do_handshake(ssl);
}

void Relay::Advance(Direction direction) {
  if (client_.cancelled()) return;  // the other direction has failed
  Wait((this->*direction)(), direction);
}

void Relay::Wait(Need need, Direction direction) {
  const auto later = [self = shared_from_this(), direction] { self->Advance(direction); };
  switch (need) {
    case Need::kClientReadable:
      return client_.OnReadable(later);
    case Need::kClientWritable:
      return client_.OnWritable(later);
    case Need::kWorkerReadable:
      return worker_.OnReadable(later);
    case Need::kWorkerWritable:
      return worker_.OnWritable(later);
    case Need::kTurn:
      return asio::post(shared_.io, later);
    case Need::kGoOn:
    case Need::kNothingMore:
      return;
    case Need::kFailed:
      return Abort();
  }
}

// What waits holds this object; with it goes the last that does.
void Relay::Abort() {
  client_.Cancel();
  worker_.Cancel();
}

Relay::Need Relay::NeedOf(int ssl_error) {
  if (ssl_error == SSL_ERROR_WANT_READ) return Need::kClientReadable;
  if (ssl_error == SSL_ERROR_WANT_WRITE) return Need::kClientWritable;
  return Need::kFailed;
}

Relay::Need Relay::ClientToWorker() {
  if (const Need need = PassToWorker(to_worker_); need != Need::kGoOn) return need;
  size_t size = 0;
  const int error = ReadRecords(size);
  // What is wrong behind it is so the next time, too.
  const Need need = size > 0 ? PassToWorker(Scratch().first(size)) : Need::kGoOn;
  if (refused_) {
    SendFailure();
    return Need::kFailed;
  }
  if (need != Need::kGoOn) return need;
  if (error == SSL_ERROR_NONE) return Need::kTurn;
  if (error != SSL_ERROR_ZERO_RETURN) return NeedOf(error);
  // The authenticated end. Our end of the pair stays open: its close would mean truncation.
  client_ended_ = true;
  shutdown(worker_.get(), SHUT_WR);
  return worker_closed_ ? Need::kFailed : Need::kNothingMore;
}

int Relay::ReadRecords(size_t& size) {
  for (int records = 0; records < kRecordsPerTurn && size < Scratch().size(); ++records) {
    records_without_data_ = 0;
    const SslResult read = Read(ssl_.get(), Scratch().subspan(size));
    size += read.size;
    if (read.error != SSL_ERROR_NONE || refused_) return read.error;
    // Asking for more after a short record mostly costs a call and a buffer that say "nothing".
    const bool drained = read.size < SSL3_RT_MAX_PLAIN_LENGTH && SSL_has_pending(ssl_.get()) == 0;
    if (drained) return SSL_ERROR_WANT_READ;
  }
  return SSL_ERROR_NONE;
}

Relay::Need Relay::WorkerToClient() {
  const Need need = PassWhatWorkerSaid();
  return need == Need::kFailed && !worker_closed_ ? ClientClosed() : need;
}

Relay::Need Relay::PassWhatWorkerSaid() {
  if (const Need need = PassToClient(to_client_); need != Need::kGoOn) return need;
  while (true) {
    if (owes_end_) {
      if (const Need need = SendCloseNotify(); need != Need::kGoOn) return need;
    }
    channel::StreamRead read;
    const channel::Result result = channel::ReceiveStream(worker_.get(), Scratch(), read);
    if (result == channel::Result::kWouldBlock) return Need::kWorkerReadable;
    if (result != channel::Result::kOk) return WorkerClosed();
    if (worker_ended_) return Need::kTurn;  // nothing counts behind END
    worker_ended_ = owes_end_ = read.end;
    const Need need = PassToClient(Scratch().first(read.size));
    if (need != Need::kGoOn) return need;
    if (!read.end) return read.size < Scratch().size() ? Need::kWorkerReadable : Need::kTurn;
  }
}

// A worker that has ended may leave without reading the rest; WorkerToClient sees it go.
Relay::Need Relay::PassToWorker(std::span<const uint8_t> bytes) {
  const Need need = worker_closed_ ? Need::kFailed : Pass(&Relay::WriteToWorker, bytes, to_worker_);
  if (need != Need::kFailed || !worker_ended_) return need;
  to_worker_.clear();
  return Need::kGoOn;
}

Relay::Need Relay::PassToClient(std::span<const uint8_t> bytes) {
  // OpenSSL writes record by record, and TCP would send as often.
  const bool several_records = bytes.size() > SSL3_RT_MAX_PLAIN_LENGTH;
  if (several_records) Cork(true);
  const Need need = Pass(&Relay::WriteToClient, bytes, to_client_);
  if (several_records) Cork(false);
  return need;
}

Relay::Need Relay::Pass(Written (Relay::*write)(std::span<const uint8_t>),
                        std::span<const uint8_t> bytes, std::vector<uint8_t>& kept) {
  Need need = Need::kGoOn;
  while (!bytes.empty() && need == Need::kGoOn) {
    const Written written = (this->*write)(bytes);
    bytes = bytes.subspan(written.size);
    need = written.need;
  }
  if (!bytes.empty() || !kept.empty()) kept = std::vector<uint8_t>(bytes.begin(), bytes.end());
  return need;
}

Relay::Written Relay::WriteToWorker(std::span<const uint8_t> bytes) {
  return Send(worker_.get(), bytes, Need::kWorkerWritable);
}

Relay::Written Relay::WriteToClient(std::span<const uint8_t> bytes) {
  if (sealer_ == Sealer::kKernel) return Send(client_.get(), bytes, Need::kClientWritable);
  const SslResult written = Write(ssl_.get(), bytes);
  return {written.size, written.error == SSL_ERROR_NONE ? Need::kGoOn : NeedOf(written.error)};
}

Relay::Written Relay::Send(int socket, std::span<const uint8_t> bytes, Need room) {
  const ssize_t n = send(socket, bytes.data(), bytes.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
  if (n >= 0) return {static_cast<size_t>(n), Need::kGoOn};
  if (errno == EINTR) return {};
  return {0, errno == EAGAIN ? room : Need::kFailed};
}

// What is not a full segment waits for more (tcp(7)).
void Relay::Cork(bool corked) {
  const int value = corked ? 1 : 0;
  setsockopt(client_.get(), IPPROTO_TCP, TCP_CORK, &value, sizeof(value));
}

// What it had sent before goes to the worker, as far as there is room; behind it is no end of TLS.
// That is no more than the socket has by now: after shutdown(2) the kernel takes nothing further.
Relay::Need Relay::ClientClosed() {
  shutdown(client_.get(), SHUT_RDWR);
  int turns = 0;
  while (turns < kLastTurns && !client_ended_ && ClientToWorker() == Need::kTurn) ++turns;
  return Need::kFailed;
}

// Without END the client gets no close_notify: it must not take a part for the whole.
Relay::Need Relay::WorkerClosed() {
  worker_closed_ = true;
  if (!worker_ended_) SendFailure();
  if (!worker_ended_ || client_ended_) return Need::kFailed;
  const auto timer = std::make_shared<asio::steady_timer>(shared_.io, kRelayLinger);
  timer->async_wait([timer, relay = weak_from_this()](const asio::error_code&) {
    if (const auto still_there = relay.lock()) still_there->Abort();
  });
  return Need::kNothingMore;
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

Relay::Need Relay::SendCloseNotify() {
  // One segment for the alert and the end of the stream, which shutdown(2) sends in any case.
  Cork(true);
  Need need = Need::kGoOn;
  if (sealer_ == Sealer::kKernel) {
    const int error = SendAlertRecord(client_.get(), SSL3_AL_WARNING, SSL_AD_CLOSE_NOTIFY);
    if (error != 0) need = error == EAGAIN ? Need::kClientWritable : Need::kFailed;
  } else {
    ClearErrors();
    const int result = SSL_shutdown(ssl_.get());  // 0: sent, the client's is still to come
    if (result < 0) need = NeedOf(SSL_get_error(ssl_.get(), result));
  }
  if (need != Need::kGoOn) return need;
  owes_end_ = false;
  shutdown(client_.get(), SHUT_WR);
  return Need::kGoOn;
}

// SSL_read(3) goes on until there is data, however much it finds that is none: with the end that is
// feigned here it stops at the next record.
void Relay::OnMessage(int is_write, int /*version*/, int content_type, const void* data,
                      size_t size, SSL* ssl, void* self) {
  if (is_write != 0 || size == 0) return;
  auto& relay = *static_cast<Relay*>(self);
  const auto* message = static_cast<const uint8_t*>(data);
  if (content_type == SSL3_RT_HEADER && ++relay.records_without_data_ > kMaxRecordsWithoutData) {
    relay.refused_ = true;
  }
  if (content_type == SSL3_RT_HANDSHAKE && message[0] == SSL3_MT_KEY_UPDATE) {
    relay.OnKeyUpdate(/*answer_requested=*/message[size - 1] == SSL_KEY_UPDATE_REQUESTED);
  }
  if (relay.refused_) SSL_set_shutdown(ssl, SSL_get_shutdown(ssl) | SSL_RECEIVED_SHUTDOWN);
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
