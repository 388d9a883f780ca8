// SPDX-License-Identifier: Apache-2.0
#include "broker/handshaker/relay.h"

#include <linux/sockios.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <asio/post.hpp>
#include <asio/steady_timer.hpp>
#include <cerrno>
#include <utility>

#include "broker/handshaker/farewell.h"
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

Relay::Relay(Shared& shared, AsyncFd peer, SslPtr ssl, Sealer sealer, AsyncFd worker,
             Admission::Place place)
    : shared_(shared),
      active_(shared),
      place_(std::move(place)),
      peer_(std::move(peer)),
      ssl_(std::move(ssl)),
      sealer_(sealer),
      worker_(std::move(worker)) {
  ++shared_.counters.relay_active;
}

void Relay::TakeSession() {
  SSL_set_rfd(ssl_.get(), peer_.get());
  if (sealer_ == Sealer::kOpenssl) {
    SSL_set_wfd(ssl_.get(), peer_.get());
  } else {
    SSL_set0_wbio(ssl_.get(), BIO_new(BIO_s_null()));  // alerts that OpenSSL would send
  }
  // An idle connection keeps no record buffers. During the handshake it was better to keep them.
  SSL_set_mode(ssl_.get(), SSL_MODE_RELEASE_BUFFERS);
  SSL_free_buffers(ssl_.get());
  // Whole records with one read(2): from now on all that comes is for this object.
  SSL_set_read_ahead(ssl_.get(), 1);
  SSL_set_msg_callback(ssl_.get(), &Relay::OnMessage);
  SSL_set_msg_callback_arg(ssl_.get(), this);
}

// OpenSSL holds no data of the peer yet, so both directions begin by waiting.
void Relay::Start() {
  TakeSession();
  tickets_owed_ = TicketsOwed();
  if (tickets_owed_ > 0) SendTicketsInSilence();
  Wait(Need::kPeerReadable, &Relay::PeerToWorker);
  Wait(Need::kWorkerReadable, &Relay::WorkerToPeer);
}

// A resumed handshake gives the next ticket (RFC 8446 appendix C.4).
int Relay::TicketsOwed() const {
  SSL* const ssl = ssl_.get();
  const bool later = SSL_is_server(ssl) == 1 && SSL_version(ssl) == TLS1_3_VERSION &&
                     SSL_get_num_tickets(ssl) == 0;
  const int tickets = later ? static_cast<int>(SSL_CTX_get_num_tickets(SSL_get_SSL_CTX(ssl))) : 0;
  return SSL_session_reused(ssl) == 1 ? std::min(tickets, 1) : tickets;
}

void Relay::PrepareTickets() {
  ClearErrors();
  while (std::exchange(tickets_owed_, std::max(tickets_owed_ - 1, 0)) > 0) {
    (void)SSL_new_session_ticket(ssl_.get());
  }
}

// A peer is not silent while the worker has not taken all that it has said, since the relay does
// not look for more then; nor in the middle of a record.
bool Relay::PeerIsSilent() const {
  return silent_ && to_worker_.empty() && SSL_has_pending(ssl_.get()) == 0;
}

// If there is no room for the tickets now, the next write sends them.
void Relay::SendTicketsInSilence() {
  silent_ = true;
  const auto timer = std::make_shared<asio::steady_timer>(shared_.io, kTicketSilence);
  timer->async_wait([timer, relay = weak_from_this()](const asio::error_code&) {
    const auto self = relay.lock();
    if (!self || self->peer_.cancelled() || self->peer_ended_ || self->tickets_owed_ == 0) return;
    if (!self->PeerIsSilent()) return self->SendTicketsInSilence();
    self->PrepareTickets();
    (void)SSL_do_handshake(self->ssl_.get());
  });
}

void Relay::Advance(Direction direction) {
  if (peer_.cancelled()) return;  // the other direction has failed
  Wait((this->*direction)(), direction);
}

void Relay::Wait(Need need, Direction direction) {
  const auto later = [self = shared_from_this(), direction] { self->Advance(direction); };
  switch (need) {
    case Need::kPeerReadable:
      return peer_.OnReadable(later);
    case Need::kPeerWritable:
      return peer_.OnWritable(later);
    case Need::kWorkerReadable:
      return worker_.OnReadable(later);
    case Need::kWorkerWritable:
      return worker_.OnWritable(later);
    case Need::kTurn:
      return asio::post(shared_.io, later);
    case Need::kGoOn:
    case Need::kNothingMore:
      return;
    case Need::kOver:
      return Abort();
  }
}

// The waiting handlers hold this object; it is destroyed with the last of them.
void Relay::Abort() {
  if (peer_.cancelled()) return;  // it is over already
  peer_.Cancel();
  worker_.Cancel();
  if (alerted_) StartFarewell(shared_, peer_.Release(), std::move(place_));
}

Relay::Need Relay::NeedOf(int ssl_error) {
  if (ssl_error == SSL_ERROR_WANT_READ) return Need::kPeerReadable;
  if (ssl_error == SSL_ERROR_WANT_WRITE) return Need::kPeerWritable;
  return Need::kOver;
}

Relay::Need Relay::PeerToWorker() {
  moved_ = true;
  if (const Need need = PassToWorker(to_worker_); need != Need::kGoOn) return need;
  size_t size = 0;
  const int error = ReadRecords(size);
  silent_ = silent_ && size == 0;
  if (error == SSL_ERROR_SSL) alerted_ = true;
  // If something is wrong after these bytes, the next read finds it, too.
  const Need need = size > 0 ? PassToWorker(Scratch().first(size)) : Need::kGoOn;
  if (refused_) {
    SendFailure();
    return Need::kOver;
  }
  if (need != Need::kGoOn) return need;
  if (error == SSL_ERROR_NONE) return Need::kTurn;
  if (error != SSL_ERROR_ZERO_RETURN) return NeedOf(error);
  // The authenticated end. Our end of the pair stays open: its close would mean truncation.
  peer_ended_ = true;
  shutdown(worker_.get(), SHUT_WR);
  return worker_closed_ ? Need::kOver : Need::kNothingMore;
}

int Relay::ReadRecords(size_t& size) {
  for (int records = 0; records < kRecordsPerTurn && size < Scratch().size(); ++records) {
    records_without_data_ = 0;
    const SslResult read = Read(ssl_.get(), Scratch().subspan(size));
    size += read.size;
    if (read.error != SSL_ERROR_NONE || refused_) return read.error;
    // After a short record there is mostly nothing more to read, and asking costs a call and a
    // buffer.
    const bool drained = read.size < SSL3_RT_MAX_PLAIN_LENGTH && SSL_has_pending(ssl_.get()) == 0;
    if (drained) return SSL_ERROR_WANT_READ;
  }
  return SSL_ERROR_NONE;
}

Relay::Need Relay::WorkerToPeer() {
  const Need need = PassWhatWorkerSaid();
  const bool peer_failed = need == Need::kOver && !worker_closed_ && !peer_gone_;
  if (!peer_failed) return need;
  PeerGone();
  return Need::kTurn;
}

Relay::Need Relay::PassWhatWorkerSaid() {
  if (const Need need = PassToPeer(to_peer_); need != Need::kGoOn) return need;
  while (true) {
    if (owes_end_) {
      if (const Need need = SendCloseNotify(); need != Need::kGoOn) return need;
    }
    channel::StreamRead read;
    const channel::Result result = channel::ReceiveStream(worker_.get(), Scratch(), read);
    if (result == channel::Result::kWouldBlock) return Need::kWorkerReadable;
    if (result != channel::Result::kOk) return WorkerClosed();
    if (worker_ended_) return Need::kTurn;  // what follows END is ignored
    worker_ended_ = read.end;
    owes_end_ = read.end && !peer_gone_;
    const Need need = PassToPeer(Scratch().first(read.size));
    if (need != Need::kGoOn) return need;
    if (!read.end) return read.size < Scratch().size() ? Need::kWorkerReadable : Need::kTurn;
  }
}

// The other direction goes on: what the peer has sent, and its end if that is there, is for the
// worker, as fast as the worker takes it. It finds the reset behind that.
void Relay::PeerGone() {
  peer_gone_ = true;
  to_peer_.clear();
  owes_end_ = false;
  tickets_owed_ = 0;
  if (!peer_ended_) LimitWhatIsLeft();
}

// A worker that does not read would keep the rest, and this object, for ever.
void Relay::LimitWhatIsLeft() {
  moved_ = false;
  const auto timer = std::make_shared<asio::steady_timer>(shared_.io, kGoneTime);
  timer->async_wait([timer, relay = weak_from_this()](const asio::error_code&) {
    const auto self = relay.lock();
    if (!self || self->peer_.cancelled() || self->peer_ended_) return;
    self->moved_ ? self->LimitWhatIsLeft() : self->Abort();
  });
}

// A worker that has sent END may close without reading the rest; WorkerToPeer notices the close.
Relay::Need Relay::PassToWorker(std::span<const uint8_t> bytes) {
  const Need need = worker_closed_ ? Need::kOver : Pass(&Relay::WriteToWorker, bytes, to_worker_);
  if (need != Need::kOver || !worker_ended_) return need;
  to_worker_.clear();
  return Need::kGoOn;
}

Relay::Need Relay::PassToPeer(std::span<const uint8_t> bytes) {
  if (peer_gone_) return Drop(bytes.size());
  // OpenSSL writes one record at a time, and TCP would send each by itself.
  const bool tickets = tickets_owed_ > 0 && !bytes.empty();
  const bool several_records = tickets || bytes.size() > SSL3_RT_MAX_PLAIN_LENGTH;
  if (tickets) PrepareTickets();
  if (several_records) Cork(true);
  const Need need = Pass(&Relay::WriteToPeer, bytes, to_peer_);
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

Relay::Written Relay::WriteToPeer(std::span<const uint8_t> bytes) {
  if (sealer_ == Sealer::kKernel) return Send(peer_.get(), bytes, Need::kPeerWritable);
  const SslResult written = Write(ssl_.get(), bytes);
  return {written.size, written.error == SSL_ERROR_NONE ? Need::kGoOn : NeedOf(written.error)};
}

Relay::Written Relay::Send(int socket, std::span<const uint8_t> bytes, Need room) {
  const ssize_t n = send(socket, bytes.data(), bytes.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
  if (n >= 0) return {static_cast<size_t>(n), Need::kGoOn};
  if (errno == EINTR) return {};
  return {0, errno == EAGAIN ? room : Need::kOver};
}

// While the socket is corked, a segment that is not full waits for more data (tcp(7)).
void Relay::Cork(bool corked) {
  const int value = corked ? 1 : 0;
  setsockopt(peer_.get(), IPPROTO_TCP, TCP_CORK, &value, sizeof(value));
}

Relay::Need Relay::Drop(size_t size) {
  dropped_ += size;
  if (dropped_ > kMaxDropped) return Need::kOver;
  if (!peer_ended_) return Need::kGoOn;
  int unread = 0;
  const bool all_read = ioctl(worker_.get(), SIOCOUTQ, &unread) == 0 && unread == 0;
  const auto now = std::chrono::steady_clock::now();
  if (all_read && !all_read_since_) all_read_since_ = now;
  const bool told = all_read_since_ && now - *all_read_since_ >= kEndTime;
  return told ? Need::kOver : Need::kGoOn;
}

// If the worker closes without END, the peer gets no close_notify: it must not take a part for
// the whole.
Relay::Need Relay::WorkerClosed() {
  worker_closed_ = true;
  if (!worker_ended_) SendFailure();
  if (!worker_ended_ || peer_ended_) return Need::kOver;
  const auto timer = std::make_shared<asio::steady_timer>(shared_.io, kRelayLinger);
  timer->async_wait([timer, relay = weak_from_this()](const asio::error_code&) {
    if (const auto still_there = relay.lock()) still_there->Abort();
  });
  return Need::kNothingMore;
}

// OpenSSL sends alerts only for errors that it finds itself, and has no function to send another
// alert. So this makes OpenSSL fail: in TLS 1.3 it cannot make a further ticket (internal_error);
// in TLS 1.2, where tickets are part of the handshake, and for a client, it gets a record that does
// not authenticate (bad_record_mac).
void Relay::SendFailure() {
  ERR_clear_error();
  alerted_ = true;
  if (sealer_ == Sealer::kKernel) {
    (void)SendAlertRecord(peer_.get(), SSL3_AL_FATAL, SSL_AD_INTERNAL_ERROR);
  } else if (SSL_version(ssl_.get()) == TLS1_3_VERSION && SSL_is_server(ssl_.get()) == 1) {
    TicketSealer::Refuse(ssl_.get());
    SSL_clear_options(ssl_.get(), SSL_OP_NO_TICKET);  // a ticket that needs a key
    // The first call may send the answer to a KeyUpdate, and nothing else.
    for (int tries = 0; tries < 2; ++tries) {
      if (SSL_new_session_ticket(ssl_.get()) != 1 || SSL_do_handshake(ssl_.get()) != 1) return;
    }
  } else {
    static constexpr std::array<uint8_t, 5 + 32> kNoRecord = {SSL3_RT_APPLICATION_DATA, 3, 3, 0,
                                                              32};
    SSL_set0_rbio(ssl_.get(), BIO_new_mem_buf(kNoRecord.data(), kNoRecord.size()));
    (void)Read(ssl_.get(), Scratch());
  }
}

Relay::Need Relay::SendCloseNotify() {
  // Sends the alert and the FIN in one segment. shutdown(2) sends it although the socket is corked.
  Cork(true);
  PrepareTickets();
  Need need = Need::kGoOn;
  if (sealer_ == Sealer::kKernel) {
    const int error = SendAlertRecord(peer_.get(), SSL3_AL_WARNING, SSL_AD_CLOSE_NOTIFY);
    if (error != 0) need = error == EAGAIN ? Need::kPeerWritable : Need::kOver;
  } else {
    ClearErrors();
    // Tickets that were prepared and not sent yet go first.
    int result = SSL_in_init(ssl_.get()) == 1 ? SSL_do_handshake(ssl_.get()) : 1;
    if (result == 1) result = SSL_shutdown(ssl_.get());  // 0: sent; the peer's has not come yet
    const int error = result < 0 ? SSL_get_error(ssl_.get(), result) : SSL_ERROR_NONE;
    if (error != SSL_ERROR_NONE) need = NeedOf(error);
  }
  if (need != Need::kGoOn) return need;
  owes_end_ = false;
  shutdown(peer_.get(), SHUT_WR);
  return Need::kGoOn;
}

// SSL_read(3) does not return before there is data, however many records without data it reads.
// SSL_RECEIVED_SHUTDOWN pretends that the stream has ended, so that it stops at the next record.
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
  // RFC 8446 section 4.6.3 requires an answer, but the keys to send it with are in the kernel.
  if (answer_requested && sealer_ == Sealer::kKernel) refused_ = true;
  const auto now = std::chrono::steady_clock::now();
  if (now - key_updates_since_ > std::chrono::seconds(1)) {
    key_updates_since_ = now;
    key_updates_ = 0;
  }
  if (++key_updates_ > kMaxKeyUpdatesPerSecond) refused_ = true;
}

}  // namespace tlsbroker
