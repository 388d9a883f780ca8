// SPDX-License-Identifier: Apache-2.0
// Asio's own functions, compiled once: its headers only declare them (ASIO_SEPARATE_COMPILATION).
// Linked by the processes with an event loop, supervisor and handshaker.

#include <sys/epoll.h>

#include "broker/support/exclusive_wakeup.h"

namespace tlsbroker {
namespace {

thread_local bool exclusive = false;

// EPOLLEXCLUSIVE cannot be combined with EPOLLPRI, which Asio asks for as well, nor changed later
// by EPOLL_CTL_MOD. That change fails, and Asio goes on without it when it begins to wait for
// something to read.
int ControlEpoll(int epoll, int operation, int fd, epoll_event* event) {
  if (exclusive && operation == EPOLL_CTL_ADD) event->events = EPOLLIN | EPOLLET | EPOLLEXCLUSIVE;
  return epoll_ctl(epoll, operation, fd, event);
}

}  // namespace

ExclusiveWakeup::ExclusiveWakeup() { exclusive = true; }
ExclusiveWakeup::~ExclusiveWakeup() { exclusive = false; }

}  // namespace tlsbroker

// Asio has no option for it.
#define epoll_ctl tlsbroker::ControlEpoll
#include <asio/impl/src.hpp>
