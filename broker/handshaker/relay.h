// Pumps one connection whose records the kernel does not do, or in one direction only: OpenSSL on
// the client's side, a Unix stream on the worker's, as PROTOCOL.md ("Relay and bridge streams")
// says. Runs in the handshaker; both sides are strangers.

#ifndef TLSBROKER_BROKER_HANDSHAKER_RELAY_H_
#define TLSBROKER_BROKER_HANDSHAKER_RELAY_H_

#include <chrono>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "broker/handshaker/async_fd.h"
#include "broker/handshaker/service.h"
#include "broker/support/openssl_ptr.h"

namespace tlsbroker {

// The worker has ended and left, the client has not: what still comes is read and dropped for this
// long, since a close with unread data would reset the connection under our close_notify.
inline constexpr std::chrono::seconds kRelayLinger{5};

// Short records of one connection that are passed on before another one has its turn.
inline constexpr int kRecordsPerTurn = 64;

// A connection whose client is gone has no more turns than these, all at once, for what came
// before: 16 MiB, or 16,384 tiny records, which take 20 ms.
inline constexpr int kLastTurns = 256;

// KeyUpdates of the peer that are answered within one second; more end the connection.
inline constexpr int kMaxKeyUpdatesPerSecond = 8;

// Records that one SSL_read(3) may find before there is data; more end the connection. Nobody has a
// reason for as many at once: a server sends a few tickets, and OpenSSL stops at 32 empty ones.
inline constexpr int kMaxRecordsWithoutData = 64;

// Who makes the records for the client. OpenSSL opens the client's in both cases.
enum class Sealer {
  kOpenssl,
  kKernel,  // TX keys are installed, and OpenSSL's own must not be used again: same numbers, same
            // nonces
};

class Relay : public std::enable_shared_from_this<Relay> {
 public:
  // `ssl` has done its handshake and holds no data; `worker` is our end of the pair. Counts as
  // relayed as long as it lives.
  Relay(Shared& shared, AsyncFd client, SslPtr ssl, Sealer sealer, AsyncFd worker);
  Relay(const Relay&) = delete;
  Relay& operator=(const Relay&) = delete;
  ~Relay() { --shared_.counters.relay_active; }

  // From here on it lives by itself, until both directions have ended and the worker has closed, or
  // one side failed. That closes both descriptors. No coroutine, whose frames would be kept by a
  // connection that is idle.
  void Start();

 private:
  // What a direction needs to go on; kGoOn: nothing.
  enum class Need {
    kGoOn,
    kClientReadable,
    kClientWritable,
    kWorkerReadable,
    kWorkerWritable,
    kTurn,         // the other connections' turn: there may be more to do here at once
    kNothingMore,  // it has ended
    kFailed,       // or there is nothing to do in either: the connection ends
  };
  struct Written {
    size_t size = 0;
    Need need = Need::kGoOn;
  };
  using Direction = Need (Relay::*)();

  // OpenSSL reads from the socket and writes to it from now on.
  void TakeSession();
  // TLS 1.3, if the handshake has sent none (SSL_set_num_tickets(3)).
  void SendTicket();
  // Goes on in one direction until it has to wait, and comes back when it has waited.
  void Advance(Direction direction);
  void Wait(Need need, Direction direction);
  Need ClientToWorker();
  // The data of what records there are, into Scratch(), and why it ends: SSL_ERROR_NONE if it is
  // enough for one turn.
  int ReadRecords(size_t& size);
  Need WorkerToClient();
  Need PassWhatWorkerSaid();

  // Both write all of `bytes`. What has to wait is copied to `kept`, and `bytes` may be just that.
  Need PassToWorker(std::span<const uint8_t> bytes);
  Need PassToClient(std::span<const uint8_t> bytes);
  void Cork(bool corked);
  Need Pass(Written (Relay::*write)(std::span<const uint8_t>), std::span<const uint8_t> bytes,
            std::vector<uint8_t>& kept);
  static Written Send(int socket, std::span<const uint8_t> bytes, Need room);
  Written WriteToWorker(std::span<const uint8_t> bytes);
  Written WriteToClient(std::span<const uint8_t> bytes);
  Need SendCloseNotify();
  Need ClientClosed();
  Need WorkerClosed();
  // A fatal alert, if there is room for it now: what the client has is not the whole.
  void SendFailure();
  void Abort();

  static Need NeedOf(int ssl_error);
  static void OnMessage(int is_write, int version, int content_type, const void* data, size_t size,
                        SSL* ssl, void* self);
  void OnKeyUpdate(bool answer_requested);

  Shared& shared_;
  const ActiveConnection active_;
  AsyncFd client_;
  SslPtr ssl_;
  Sealer sealer_;
  AsyncFd worker_;
  std::vector<uint8_t> to_worker_;  // read, and there was no room for it
  std::vector<uint8_t> to_client_;
  bool client_ended_ = false;  // close_notify came
  bool worker_ended_ = false;  // END came
  bool owes_end_ = false;      // and close_notify is still to be sent
  bool worker_closed_ = false;
  int records_without_data_ = 0;
  bool refused_ = false;  // what the peer sent ends the connection
  int key_updates_ = 0;
  std::chrono::steady_clock::time_point key_updates_since_{};
};

}  // namespace tlsbroker

#endif  // TLSBROKER_BROKER_HANDSHAKER_RELAY_H_
