// SPDX-License-Identifier: Apache-2.0
// Passes on the data of one connection whose records the kernel does not do, or does in one
// direction only: OpenSSL on the peer's side, a Unix stream on the worker's, as PROTOCOL.md
// ("Relay and bridge streams") says. Runs in the handshaker; both sides are strangers.

#ifndef TLSBROKER_BROKER_HANDSHAKER_RELAY_H_
#define TLSBROKER_BROKER_HANDSHAKER_RELAY_H_

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "broker/handshaker/async_fd.h"
#include "broker/handshaker/service.h"
#include "broker/support/openssl_ptr.h"

namespace tlsbroker {

// When the worker has ended and closed, but the peer has not, what the peer still sends is read
// and dropped for this long: a close with unread data would reset the connection, and the peer
// might not get our close_notify.
inline constexpr std::chrono::seconds kRelayLinger{5};

// When neither side has said anything for this long, the peer gets its session tickets. Otherwise
// it gets them with the worker's first bytes: a peer that writes all it has and closes without
// reading would reset the connection if there were a ticket to read, and lose what is still on its
// way.
inline constexpr std::chrono::seconds kTicketSilence{1};

// Short records of one connection that are passed on before another one has its turn.
inline constexpr int kRecordsPerTurn = 64;

// When the peer is gone, but has ended its direction before, what the worker still writes is
// dropped until the worker can be told: a close would turn the end that it has not read yet into a
// cut. A worker that has read all, and still writes after this time, has read the end.
inline constexpr std::chrono::seconds kEndTime{1};
// One that writes more than this is told in any case.
inline constexpr size_t kMaxDropped = 1 << 20;

// A worker that takes nothing for so long of what a peer has said that is gone does not get the
// rest.
inline constexpr std::chrono::seconds kGoneTime{60};

// KeyUpdates of the peer that are answered within one second; more end the connection.
inline constexpr int kMaxKeyUpdatesPerSecond = 8;

// Records that one SSL_read(3) may find before there is data; more end the connection. Nobody has a
// reason for as many at once: a server sends a few tickets, and OpenSSL stops at 32 empty ones.
inline constexpr int kMaxRecordsWithoutData = 64;

// Which side makes the records for the peer. In both cases OpenSSL opens the records that the
// peer sends.
enum class Sealer {
  kOpenssl,
  kKernel,  // TX keys are installed, and OpenSSL's own must not be used again: same numbers, same
            // nonces
};

class Relay : public std::enable_shared_from_this<Relay> {
 public:
  // `ssl` has done its handshake and holds no data; `worker` is our end of the pair. As long as the
  // relay lives it counts as relayed, with `place`.
  Relay(Shared& shared, AsyncFd peer, SslPtr ssl, Sealer sealer, AsyncFd worker,
        Admission::Place place);
  Relay(const Relay&) = delete;
  Relay& operator=(const Relay&) = delete;
  ~Relay() { --shared_.counters.relay_active; }

  // From here on the relay keeps itself alive, until both directions have ended and the worker has
  // closed, or one side failed. Then it closes both descriptors. The relay is no coroutine, since
  // the frames would stay in memory for each idle connection.
  void Start();

 private:
  // The event that a direction waits for; kGoOn: it need not wait.
  enum class Need {
    kGoOn,
    kPeerReadable,
    kPeerWritable,
    kWorkerReadable,
    kWorkerWritable,
    kTurn,         // the other connections' turn: there may be more to do here at once
    kNothingMore,  // this direction has ended
    kOver,         // an error, or neither direction has anything left to do: the connection ends
  };
  struct Written {
    size_t size = 0;
    Need need = Need::kGoOn;
  };
  using Direction = Need (Relay::*)();

  // OpenSSL reads from the socket and writes to it from now on.
  void TakeSession();
  // The tickets of TLS 1.3, if the handshake has sent none (SSL_set_num_tickets(3)).
  int TicketsOwed() const;
  // OpenSSL sends them before what it is given next.
  void PrepareTickets();
  void SendTicketsInSilence();
  bool PeerIsSilent() const;
  // Continues one direction until it has to wait. Called again when the wait is over.
  void Advance(Direction direction);
  void Wait(Need need, Direction direction);
  Need PeerToWorker();
  // Reads the data of the records that are there into Scratch(). Returns why it stopped:
  // SSL_ERROR_NONE if it was enough for one turn.
  int ReadRecords(size_t& size);
  Need WorkerToPeer();
  Need PassWhatWorkerSaid();

  // Both write all of `bytes`, and keep what there is no room for in to_worker_ or to_peer_.
  // `bytes` may be that very vector.
  Need PassToWorker(std::span<const uint8_t> bytes);
  Need PassToPeer(std::span<const uint8_t> bytes);
  void Cork(bool corked);
  Need Pass(Written (Relay::*write)(std::span<const uint8_t>), std::span<const uint8_t> bytes,
            std::vector<uint8_t>& kept);
  static Written Send(int socket, std::span<const uint8_t> bytes, Need room);
  Written WriteToWorker(std::span<const uint8_t> bytes);
  Written WriteToPeer(std::span<const uint8_t> bytes);
  Need SendCloseNotify();
  void PeerGone();
  void LimitWhatIsLeft();
  Need Drop(size_t size);
  Need WorkerClosed();
  // Sends a fatal alert, if there is room for it now: the peer has not got all of the data.
  // OpenSSL must not be used afterwards.
  void SendFailure();
  void Abort();

  static Need NeedOf(int ssl_error);
  static void OnMessage(int is_write, int version, int content_type, const void* data, size_t size,
                        SSL* ssl, void* self);
  void OnKeyUpdate(bool answer_requested);

  Shared& shared_;
  const ActiveConnection active_;
  Admission::Place place_;
  AsyncFd peer_;
  SslPtr ssl_;
  Sealer sealer_;
  AsyncFd worker_;
  std::vector<uint8_t> to_worker_;  // was read, but there was no room for it
  std::vector<uint8_t> to_peer_;
  bool peer_ended_ = false;  // close_notify came
  bool peer_gone_ = false;   // nothing can be sent to it any more
  size_t dropped_ = 0;       // bytes that the worker wrote since then
  std::optional<std::chrono::steady_clock::time_point> all_read_since_;
  bool moved_ = false;         // the worker took something since the last look
  bool worker_ended_ = false;  // END came
  bool owes_end_ = false;      // END came, but close_notify is still to be sent
  bool worker_closed_ = false;
  bool alerted_ = false;  // a fatal alert was sent or received, and the peer should get to read it
  int tickets_owed_ = 0;
  bool silent_ = false;  // no bytes came from the peer since the last look
  int records_without_data_ = 0;
  bool refused_ = false;  // what the peer sent ends the connection
  int key_updates_ = 0;
  std::chrono::steady_clock::time_point key_updates_since_{};
};

}  // namespace tlsbroker

#endif  // TLSBROKER_BROKER_HANDSHAKER_RELAY_H_
