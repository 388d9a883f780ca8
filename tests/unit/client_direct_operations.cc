// SPDX-License-Identifier: Apache-2.0
// Connections in direct mode, and a handshaker that changes their keys.

#include <poll.h>

#include <thread>

#include "protocol/request.h"
#include "tests/unit/client_operations.h"
#include "tests/unit/client_worker.h"
#include "tests/unit/ktls_pair.h"

namespace tlsbroker {
namespace {

using WorkerPtr = std::shared_ptr<ClientWorker>;
using request::Status;

constexpr uint16_t kVersion = TLS_1_3_VERSION;
constexpr std::string_view kCloseNotify("\x01\x00", 2);
constexpr std::string_view kKeyUpdate("\x18\x00\x00\x01\x00", 5);
constexpr std::string_view kKeyUpdateRequested("\x18\x00\x00\x01\x01", 5);

WorkerPtr Connected() {
  const auto worker = std::make_shared<ClientWorker>();
  worker->TakeQueue();
  auto [peer, end] = TcpPair();
  Require(InstallKeys(peer.get(), kVersion) && InstallKeys(end.get(), kVersion), "kernel TLS");
  worker->peer = std::move(peer);
  handoff::Description description = SomeDescription(handoff::Mode::kDirect);
  description.rekey_token = {1, 2, 3};
  worker->Offer(std::move(end), description);
  worker->Take();
  return worker;
}

void PeerSendsRecord(const WorkerPtr& worker, uint8_t type, std::string_view content) {
  Require(SendRecord(worker->peer.get(), type, content), "a record");
}

// The peer sends a KeyUpdate, and data behind it. Its next keys are the same as before, which
// kernels before 6.14 refuse on either side.
void PeerUpdatesKeys(const WorkerPtr& worker, std::string_view message) {
  PeerSendsRecord(worker, 22, message);
  (void)InstallKey(worker->peer.get(), TLS_TX, kVersion);
  worker->PeerSends("data");
}

// Plays a handshaker, in a thread for which the filter does not hold: it gives one answer after the
// other.
void AnswerRequests(const WorkerPtr& worker, std::vector<Status> answers) {
  std::thread([worker, answers] {
    for (const Status status : answers) {
      channel::Message message;
      if (channel::Receive(worker->requests.get(), request::kMaxMessage, 2, message) !=
              channel::Result::kOk ||
          message.fds.size() != 2) {
        break;
      }
      const auto asked = request::DecodeRekey(message.bytes);
      if (asked && asked->direction == request::Direction::kReceive) {
        (void)InstallKey(message.fds[1].get(), TLS_RX, kVersion);
      }
      request::Answer answer{.status = status, .token = {}};
      if (status == Status::kDone) answer.token = {4, 5, 6};
      (void)channel::Send(message.fds[0].get(), request::Encode(answer));
    }
    for (;;) pause();
  }).detach();
}

template <typename Body>
Operation OnSocket(std::string name, std::vector<std::string> rows, Body body) {
  return {std::move(name), std::move(rows), [body] { return body(Connected()); }};
}

// We owe our own KeyUpdate if the handshaker had no room for it.
template <typename Call>
Operation OwingKeyUpdate(std::string name, std::string row, Call call) {
  return OnSocket(std::move(name), {std::move(row), kKeys}, [call](const WorkerPtr& worker) {
    PeerUpdatesKeys(worker, kKeyUpdateRequested);
    AnswerRequests(worker, {Status::kDone, Status::kBusy, Status::kBusy, Status::kDone});
    Require(worker->Read() == 4, "data behind the KeyUpdate");
    const auto pipe = std::make_shared<PipeEnds>();
    Require(write(pipe->write_end.get(), "data", 4) == 4, "write");
    return [=] { return call(worker, pipe->read_end.get()) == 4; };
  });
}

std::vector<Operation> ReadingAndWriting() {
  return {
      OnSocket("reading data", {"tlsbroker_read"},
               [](const WorkerPtr& worker) {
                 worker->PeerSends("data");
                 return [=] { return worker->Read() == 4; };
               }),
      OnSocket("reading close_notify", {"tlsbroker_read"},
               [](const WorkerPtr& worker) {
                 PeerSendsRecord(worker, 21, kCloseNotify);
                 return [=] { return worker->Read() == 0; };
               }),
      OnSocket("reading a record of no use", {"tlsbroker_read"},
               [](const WorkerPtr& worker) {
                 PeerSendsRecord(worker, 22, "hello");
                 return [=] { return worker->Read() == TLSBROKER_E_PROTOCOL; };
               }),
      OnSocket("splicing data into a pipe", {"tlsbroker_splice_read"},
               [](const WorkerPtr& worker) {
                 worker->PeerSends("data");
                 const auto pipe = std::make_shared<PipeEnds>();
                 return
                     [=] { return worker->connection.SpliceRead(pipe->write_end.get(), 100) == 4; };
               }),
      OnSocket("splicing at close_notify", {"tlsbroker_splice_read"},
               [](const WorkerPtr& worker) {
                 PeerSendsRecord(worker, 21, kCloseNotify);
                 const auto pipe = std::make_shared<PipeEnds>();
                 return
                     [=] { return worker->connection.SpliceRead(pipe->write_end.get(), 100) == 0; };
               }),
      OnSocket("splicing a record of no use", {"tlsbroker_splice_read"},
               [](const WorkerPtr& worker) {
                 PeerSendsRecord(worker, 22, "hello");
                 const auto pipe = std::make_shared<PipeEnds>();
                 return [=] {
                   return worker->connection.SpliceRead(pipe->write_end.get(), 100) ==
                          TLSBROKER_E_PROTOCOL;
                 };
               }),
      OnSocket("writing", {"tlsbroker_write"},
               [](const WorkerPtr& worker) {
                 return [=] { return worker->connection.Write("data") == 4; };
               }),
      OnSocket("sending a file", {"tlsbroker_sendfile"},
               [](const WorkerPtr& worker) {
                 const int file = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
                 return [=] { return worker->connection.SendFile(file, nullptr, 4) == 4; };
               }),
      OnSocket("splicing from a pipe", {"tlsbroker_splice_write"},
               [](const WorkerPtr& worker) {
                 const auto pipe = std::make_shared<PipeEnds>();
                 Require(write(pipe->write_end.get(), "data", 4) == 4, "write");
                 return
                     [=] { return worker->connection.SpliceWrite(pipe->read_end.get(), 100) == 4; };
               }),
      OnSocket("splicing from a pipe at its end", {"tlsbroker_splice_write"},
               [](const WorkerPtr& worker) {
                 const auto pipe = std::make_shared<PipeEnds>();
                 pipe->write_end.Reset();
                 return
                     [=] { return worker->connection.SpliceWrite(pipe->read_end.get(), 100) == 0; };
               })};
}

std::vector<Operation> ChangingKeys() {
  return {
      OnSocket("following a KeyUpdate", {"tlsbroker_read", kKeys},
               [](const WorkerPtr& worker) {
                 PeerUpdatesKeys(worker, kKeyUpdate);
                 AnswerRequests(worker, {Status::kDone});
                 return [=] { return worker->Read() == 4; };
               }),
      OnSocket("answering a KeyUpdate", {"tlsbroker_splice_read", kKeys},
               [](const WorkerPtr& worker) {
                 PeerUpdatesKeys(worker, kKeyUpdateRequested);
                 AnswerRequests(worker, {Status::kDone, Status::kDone});
                 const auto pipe = std::make_shared<PipeEnds>();
                 return
                     [=] { return worker->connection.SpliceRead(pipe->write_end.get(), 100) == 4; };
               }),
      OwingKeyUpdate("writing with a KeyUpdate before", "tlsbroker_write",
                     [](const WorkerPtr& worker, int) { return worker->connection.Write("data"); }),
      OwingKeyUpdate("splicing from a pipe with a KeyUpdate before", "tlsbroker_splice_write",
                     [](const WorkerPtr& worker, int pipe) {
                       return worker->connection.SpliceWrite(pipe, 100);
                     }),
  };
}

std::vector<Operation> EndingThem() {
  return {OnSocket("ending", {"tlsbroker_end_write"},
                   [](const WorkerPtr& worker) {
                     return [=] { return worker->connection.EndWrite() == 0; };
                   }),
          OnSocket("ending without room", {"tlsbroker_end_write"},
                   [](const WorkerPtr& worker) {
                     worker->Fill();
                     return [=] { return worker->connection.EndWrite() == -EAGAIN; };
                   }),
          OnSocket("closing after the peer", {"tlsbroker_close"},
                   [](const WorkerPtr& worker) {
                     worker->PeerSends("unread");
                     PeerSendsRecord(worker, 21, kCloseNotify);
                     return [=] { return worker->connection.Close() == 0; };
                   }),
          OnSocket("closing, with an unread record of no use", {"tlsbroker_close"},
                   [](const WorkerPtr& worker) {
                     PeerSendsRecord(worker, 22, "hello");
                     return [=] { return worker->connection.Close() == 0; };
                   }),
          OnSocket("closing before the peer", {"tlsbroker_close"},
                   [](const WorkerPtr& worker) {
                     return [=] { return worker->connection.Close(50) == 0; };
                   }),
          OnSocket("aborting", {"tlsbroker_abort"},
                   [](const WorkerPtr& worker) {
                     return [=] {
                       worker->connection.Abort();
                       return true;
                     };
                   }),
          OnSocket("forgetting", {"tlsbroker_forget"}, [](const WorkerPtr& worker) {
            return [=] {
              worker->connection.Forget();
              return true;
            };
          })};
}

}  // namespace

std::vector<Operation> DirectOperations() {
  std::vector<Operation> all;
  for (const auto& some : {ReadingAndWriting(), ChangingKeys(), EndingThem()}) {
    all.insert(all.end(), some.begin(), some.end());
  }
  return all;
}

}  // namespace tlsbroker
