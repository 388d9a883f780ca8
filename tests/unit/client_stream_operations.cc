// SPDX-License-Identifier: Apache-2.0
// Operations on the queue, and on streams of a relay or bridge.

#include <signal.h>
#include <sys/un.h>

#include <cstring>
#include <thread>

#include "protocol/attach.h"
#include "protocol/request.h"
#include "tests/unit/client_operations.h"
#include "tests/unit/client_worker.h"
#include "tests/unit/ktls_pair.h"

namespace tlsbroker {
namespace {

using WorkerPtr = std::shared_ptr<ClientWorker>;

constexpr useconds_t kLater = 50'000;
constexpr useconds_t kMuchLater = 300'000;

UniqueFd Listen(const std::string& path) {
  unlink(path.c_str());
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::strncpy(address.sun_path, path.c_str(), sizeof(address.sun_path) - 1);
  UniqueFd listener(socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
  Require(bind(listener.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) == 0 &&
              listen(listener.get(), 1) == 0,
          path.c_str());
  return listener;
}

void AnswerAttachment(const UniqueFd& listener, attach::Answer answer, const UniqueFd& queue) {
  const UniqueFd socket(accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
  const int fds[] = {queue.get(), queue.get()};
  const bool attached = answer == attach::Answer::kAttached;
  (void)channel::Send(socket.get(), attach::Encode(answer), std::span(fds, attached ? 2 : 0));
}

void OfferStream(const UniqueFd& queue) {
  int ends[2];
  Require(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) == 0, "socketpair");
  const auto description = handoff::Encode(SomeDescription(handoff::Mode::kRelay));
  (void)channel::Send(queue.get(), description, std::span(ends, 1));
}

// Plays a broker for one worker, in a process of its own.
template <typename Body>
void Play(Body body) {
  const pid_t parent = getpid();
  if (fork() != 0) return;
  DieWith(parent);
  body();
  _exit(0);
}

Operation Attaching(const std::string& directory, attach::Answer answer, int result) {
  const std::string path = directory + "/web.sock";
  return {"attaching gives " + std::to_string(result), {"tlsbroker_attach"}, [=] {
            const UniqueFd listener = Listen(path);
            Play([&] {
              const auto [ours, theirs] = channel::MakePair();
              AnswerAttachment(listener, answer, theirs);
              pause();
            });
            const auto queue = std::make_shared<Queue>();
            return [=] { return Queue::Attach(path.c_str(), *queue) == result; };
          }};
}

// Plays a handshaker, in a thread for which the filter does not hold: it opens one connection.
void AnswerOpening(const WorkerPtr& worker) {
  std::thread([worker] {
    channel::Message message;
    Require(channel::Receive(worker->requests.get(), request::kMaxMessage, 2, message) ==
                channel::Result::kOk,
            "a request");
    int fds[2];
    Require(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) == 0, "socketpair");
    worker->peer.Reset(fds[0]);
    const UniqueFd end(fds[1]);
    const request::Opened opened{request::Result::kDone, "",
                                 handoff::Encode(SomeDescription(handoff::Mode::kRelay))};
    (void)channel::Send(message.fds[0].get(), request::Encode(opened), {{end.get()}});
    for (;;) pause();
  }).detach();
}

Operation TakingFromAttached(const std::string& directory) {
  const std::string path = directory + "/web.sock";
  return {"taking a connection, attached", {"tlsbroker_accept", kAttached}, [=] {
            const UniqueFd listener = Listen(path);
            Play([&] {
              const auto [ours, theirs] = channel::MakePair();
              AnswerAttachment(listener, attach::Answer::kAttached, theirs);
              usleep(kLater);
              OfferStream(ours);
              pause();
            });
            const auto queue = std::make_shared<Queue>();
            const auto connection = std::make_shared<Connection>();
            Require(Queue::Attach(path.c_str(), *queue) == 0, "attach");
            return [=] { return queue->Accept(*connection) == 0; };
          }};
}

// The broker ends, is away for a while, and comes back with a connection.
Operation AttachingAgain(const std::string& directory) {
  const std::string path = directory + "/web.sock";
  return {"attaching again", {"tlsbroker_accept", kAttached}, [=] {
            const UniqueFd listener = Listen(path);
            Play([&] {
              const auto [ours, theirs] = channel::MakePair();
              AnswerAttachment(listener, attach::Answer::kAttached, theirs);
            });
            const auto queue = std::make_shared<Queue>();
            const auto connection = std::make_shared<Connection>();
            Require(Queue::Attach(path.c_str(), *queue) == 0, "attach");
            unlink(path.c_str());
            Play([&] {
              usleep(kMuchLater);
              const UniqueFd again = Listen(path);
              const auto [ours, theirs] = channel::MakePair();
              AnswerAttachment(again, attach::Answer::kAttached, theirs);
              OfferStream(ours);
              pause();
            });
            return [=] { return queue->Accept(*connection) == 0; };
          }};
}

// An operation of a worker that has taken a connection in that mode.
template <typename Body>
Operation OnStream(std::string name, std::string row, Body body) {
  return {std::move(name), {std::move(row)}, [body] {
            const auto worker = std::make_shared<ClientWorker>();
            worker->TakeQueue();
            worker->OfferStream();
            worker->Take();
            return body(worker);
          }};
}

}  // namespace

std::vector<Operation> QueueOperations(const std::string& directory) {
  return {
      {"finding the queue",
       {"tlsbroker_queue_from_environment"},
       [] {
         const auto worker = std::make_shared<ClientWorker>();
         return [=] { return Queue::FromEnvironment("web", worker->queue) == 0; };
       }},
      {"making a queue",
       {"tlsbroker_queue_from_fd"},
       [] {
         const auto worker = std::make_shared<ClientWorker>();
         return [=] { return Queue::FromFd(3, worker->queue) == 0; };
       }},
      Attaching(directory, attach::Answer::kAttached, 0),
      Attaching(directory, attach::Answer::kNotAllowed, -EACCES),
      TakingFromAttached(directory),
      AttachingAgain(directory),
      {"freeing the queue",
       {"tlsbroker_queue_free"},
       [] {
         const auto worker = std::make_shared<ClientWorker>();
         worker->TakeQueue();
         return [=] {
           worker->queue = Queue();
           return true;
         };
       }},
      {"taking a connection",
       {"tlsbroker_accept"},
       [] {
         const auto worker = std::make_shared<ClientWorker>();
         worker->TakeQueue();
         worker->OfferStream();
         return [=] { return worker->queue.Accept(worker->connection) == 0; };
       }},
      {"dialling",
       {"tlsbroker_dial"},
       [] {
         const auto worker = std::make_shared<ClientWorker>();
         worker->TakeQueue();
         AnswerOpening(worker);
         return [=] { return worker->queue.Dial("redis", worker->connection) == 0; };
       }},
      {"wrapping",
       {"tlsbroker_wrap"},
       [] {
         const auto worker = std::make_shared<ClientWorker>();
         worker->TakeQueue();
         AnswerOpening(worker);
         // Release(), since tlsbroker_wrap() takes the socket.
         const int socket = TcpPair().second.Release();
         return [=] {
           return worker->queue.Wrap(socket, TLSBROKER_SERVER, nullptr, worker->connection) == 0;
         };
       }},
      {"nothing to take",
       {"tlsbroker_accept"},
       [] {
         const auto worker = std::make_shared<ClientWorker>();
         worker->TakeQueue();
         return [=] {
           return worker->queue.Accept(worker->connection, TLSBROKER_DONTWAIT) == -EAGAIN;
         };
       }},
  };
}

std::vector<Operation> StreamOperations() {
  return {
      OnStream("reading data", "tlsbroker_read",
               [](const WorkerPtr& worker) {
                 worker->PeerSends("data");
                 return [=] { return worker->Read() == 4; };
               }),
      OnStream("waiting for what does not come", "tlsbroker_read",
               [](const WorkerPtr& worker) {
                 const timeval limit = {0, 1000};
                 Require(setsockopt(worker->connection.fd(), SOL_SOCKET, SO_RCVTIMEO, &limit,
                                    sizeof(limit)) == 0,
                         "SO_RCVTIMEO");
                 return [=] { return worker->Read() == -EAGAIN; };
               }),
      OnStream("reading the end", "tlsbroker_read",
               [](const WorkerPtr& worker) {
                 shutdown(worker->peer.get(), SHUT_WR);
                 return [=] { return worker->Read() == 0; };
               }),
      OnStream("reading a cut", "tlsbroker_read",
               [](const WorkerPtr& worker) {
                 worker->peer.Reset();
                 return [=] { return worker->Read() == TLSBROKER_E_TRUNCATED; };
               }),
      OnStream("writing", "tlsbroker_write",
               [](const WorkerPtr& worker) {
                 return [=] { return worker->connection.Write("data", TLSBROKER_MORE) == 4; };
               }),
      OnStream("writing parts", "tlsbroker_writev",
               [](const WorkerPtr& worker) {
                 return [=] {
                   iovec part = {worker->buffer.data(), 4};
                   return worker->connection.Writev(&part, 1) == 4;
                 };
               }),
      OnStream("sending a file", "tlsbroker_sendfile",
               [](const WorkerPtr& worker) {
                 const int file = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
                 return [=] { return worker->connection.SendFile(file, nullptr, 4) == 4; };
               }),
      OnStream("splicing data into a pipe", "tlsbroker_splice_read",
               [](const WorkerPtr& worker) {
                 worker->PeerSends("data");
                 const auto pipe = std::make_shared<PipeEnds>();
                 return
                     [=] { return worker->connection.SpliceRead(pipe->write_end.get(), 100) == 4; };
               }),
      OnStream("splicing at the end", "tlsbroker_splice_read",
               [](const WorkerPtr& worker) {
                 shutdown(worker->peer.get(), SHUT_WR);
                 const auto pipe = std::make_shared<PipeEnds>();
                 return
                     [=] { return worker->connection.SpliceRead(pipe->write_end.get(), 100) == 0; };
               }),
      OnStream("splicing from a pipe", "tlsbroker_splice_write",
               [](const WorkerPtr& worker) {
                 const auto pipe = std::make_shared<PipeEnds>();
                 Require(write(pipe->write_end.get(), "data", 4) == 4, "write");
                 return
                     [=] { return worker->connection.SpliceWrite(pipe->read_end.get(), 100) == 4; };
               }),
      OnStream("not blocking", "tlsbroker_conn_set_nonblocking",
               [](const WorkerPtr& worker) {
                 return [=] { return worker->connection.SetNonblocking(true) == 0; };
               }),
      OnStream("ending", "tlsbroker_end_write",
               [](const WorkerPtr& worker) {
                 return [=] { return worker->connection.EndWrite() == 0; };
               }),
      OnStream("closing", "tlsbroker_close",
               [](const WorkerPtr& worker) {
                 worker->PeerSends("unread");
                 return [=] { return worker->connection.Close() == 0; };
               }),
      OnStream("closing without room", "tlsbroker_close",
               [](const WorkerPtr& worker) {
                 worker->Fill();
                 return [=] { return worker->connection.Close(50) == -ETIMEDOUT; };
               }),
      OnStream("aborting", "tlsbroker_abort",
               [](const WorkerPtr& worker) {
                 return [=] {
                   worker->connection.Abort();
                   return true;
                 };
               }),
      OnStream("forgetting", "tlsbroker_forget",
               [](const WorkerPtr& worker) {
                 return [=] {
                   worker->connection.Forget();
                   return true;
                 };
               }),
      OnStream("asking", "tlsbroker_conn_peer",
               [](const WorkerPtr& worker) {
                 return [=] {
                   const Connection& c = worker->connection;
                   return c.mode_name() == "relay" && c.peer() == "0.0.0.0:0" && c.alert() == -1 &&
                          c.fd() >= 0 && worker->queue.fd() == 3 && ResultText(-EPIPE) != "";
                 };
               }),
  };
}

}  // namespace tlsbroker
