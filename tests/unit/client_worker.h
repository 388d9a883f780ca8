// SPDX-License-Identifier: Apache-2.0
// A worker for the operations of client_operations.h, with the broker's side of its queue and of
// its connection. It lives until the child that runs the operation has ended.

#ifndef TLSBROKER_TESTS_UNIT_CLIENT_WORKER_H_
#define TLSBROKER_TESTS_UNIT_CLIENT_WORKER_H_

#include <fcntl.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <memory>
#include <string>
#include <string_view>
#include <tlsbroker/tlsbroker.hpp>
#include <utility>

#include "protocol/channel.h"
#include "protocol/handoff.h"
#include "tests/unit/client_pair.h"
#include "tests/unit/under_filter.h"

namespace tlsbroker {

// Passes descriptors as the supervisor does: from 3 on, with names.
inline void PassDescriptors(const UniqueFd& queue, const UniqueFd& requests) {
  const int sources[] = {fcntl(queue.get(), F_DUPFD, 100), fcntl(requests.get(), F_DUPFD, 100)};
  for (int i = 0; i < 2; ++i) Require(dup2(sources[i], 3 + i) == 3 + i, "dup2");
  setenv("LISTEN_PID", std::to_string(getpid()).c_str(), 1);
  setenv("LISTEN_FDS", "2", 1);
  setenv("LISTEN_FDNAMES", "tlsbroker.web:tlsbroker-requests.web", 1);
}

struct ClientWorker {
  ClientWorker() {
    auto [broker_queue, queue_end] = channel::MakePair();
    auto [broker_requests, requests_end] = channel::MakePair();
    // Numbers above those that are passed.
    to_queue.Reset(fcntl(broker_queue.get(), F_DUPFD_CLOEXEC, 200));
    requests.Reset(fcntl(broker_requests.get(), F_DUPFD_CLOEXEC, 200));
    PassDescriptors(queue_end, requests_end);
    // The numbers 3 and 4 now belong to the passed descriptors, so these must not close them.
    for (UniqueFd* fd : {&broker_queue, &queue_end, &broker_requests, &requests_end}) {
      if (fd->get() == 3 || fd->get() == 4) (void)fd->Release();
    }
  }

  void TakeQueue() { Require(Queue::FromEnvironment("web", queue) == 0, "the queue"); }

  void Offer(UniqueFd end, const handoff::Description& description) {
    const std::array fds = {end.get()};
    Require(
        channel::Send(to_queue.get(), handoff::Encode(description), fds) == channel::Result::kOk,
        "hand-off");
  }

  // Hands over a stream whose other end the broker has.
  void OfferStream() {
    int fds[2];
    Require(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) == 0, "socketpair");
    peer.Reset(fds[0]);
    Offer(UniqueFd(fds[1]), SomeDescription(handoff::Mode::kRelay));
  }

  void Take() { Require(queue.Accept(connection) == 0, "a connection"); }

  void PeerSends(std::string_view text) {
    Require(send(peer.get(), text.data(), text.size(), MSG_NOSIGNAL) ==
                static_cast<ssize_t>(text.size()),
            "send");
  }

  void Fill() {
    Require(connection.SetNonblocking(true) == 0, "non-blocking");
    const std::string block(16'384, 'x');
    while (connection.Write(block) > 0) {
    }
    while (connection.Write("x") > 0) {
    }
  }

  ssize_t Read() { return connection.Read(buffer.data(), buffer.size()); }

  UniqueFd to_queue, requests, peer;
  Queue queue;
  Connection connection;
  std::array<char, 100> buffer{};
};

struct PipeEnds {
  PipeEnds() {
    int fds[2];
    Require(pipe2(fds, O_CLOEXEC) == 0, "pipe2");
    read_end.Reset(fds[0]);
    write_end.Reset(fds[1]);
  }
  UniqueFd read_end, write_end;
};

}  // namespace tlsbroker

#endif  // TLSBROKER_TESTS_UNIT_CLIENT_WORKER_H_
