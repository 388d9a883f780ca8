// SPDX-License-Identifier: Apache-2.0
/*
 * A worker that serves many connections from one thread, with an epoll loop in which nothing waits
 * for a peer. It answers each line with the line in upper case. It links no TLS library and never
 * sees a key; tlsbrokerd starts it and hands the connections over. README.md has the configuration.
 *
 * Events only say that something may have changed: whatever event comes, turn() does all that the
 * connection has to do until it has to wait for the peer. That is what edge-triggered epoll
 * (EPOLLET) asks for, and it has to be edge-triggered here: a direct connection may stay readable
 * while only a part of a record is there, and a level-triggered loop would spin until the rest
 * comes.
 */

#include <ctype.h>
#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/queue.h>
#include <sys/signalfd.h>
#include <time.h>
#include <tlsbroker/tlsbroker.h>
#include <unistd.h>

enum {
  kBufferSize = 16 * 1024, /* the longest record; also the longest line */
  kRounds = 16,            /* of one connection, before other connections have their turn */
  kEvents = 64,
  kIdleMs = 60 * 1000,
  kLingerMs = 2 * 1000, /* for the last bytes and the peer's end, when we end first */
  kTickMs = 1000,       /* how exact these times are */
};

/*
 * Answers are made in place, so one buffer is all that a connection can cost:
 *
 *     0         ready       used   kBufferSize
 *     | ANSWERS | half a li |  free  |
 *
 * When it is full nothing is read until some of the answers are written. Then the kernel's buffers
 * fill, and the peer has to wait: that is the back pressure.
 */
struct connection {
  LIST_ENTRY(connection) link;
  tlsbroker_conn* tls;
  int64_t deadline;
  bool peer_ended; /* the peer's authenticated end was read */
  bool closing;    /* we want no more: what still comes is discarded */
  bool ended;      /* the peer was told that our direction is complete */
  size_t ready, used;
  char buffer[kBufferSize];
};

struct loop {
  int epoll;
  int signals;
  tlsbroker_queue* queue;
  bool queue_watched;
  bool accepting; /* false for good after a signal, and when the broker is gone */
  bool stopping;  /* after a signal: open connections end, too */
  int64_t next_look;
  LIST_HEAD(, connection) connections;
};

static void complain(const char* about, int result) {
  fprintf(stderr, "event-loop-worker: %s: %s\n", about, tlsbroker_strerror(result));
}

/* For errors that only a mistake in this program can cause. The peers see that they were cut
 * off. */
static _Noreturn void die(const char* what) {
  complain(what, -errno);
  exit(1);
}

static int64_t now_ms(void) {
  struct timespec now;
  if (clock_gettime(CLOCK_MONOTONIC, &now) < 0) die("clock_gettime");
  return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* ---- The steps of a connection: 1 if it got further, 0 if not now, or the negative error. ---- */

static void answer_up_to(struct connection* c, size_t end) {
  for (; c->ready < end; c->ready++) {
    c->buffer[c->ready] = (char)toupper((unsigned char)c->buffer[c->ready]);
  }
}

/* TCP answers a close with unread data by a reset, which may destroy what was written last. */
static int discard(struct connection* c) {
  static char discarded[kBufferSize];
  const ssize_t n = tlsbroker_read(c->tls, discarded, sizeof(discarded));
  if (n == -EAGAIN) return 0;
  if (n == 0) c->peer_ended = true;
  return n < 0 ? (int)n : 1;
}

static int receive(struct connection* c) {
  if (c->peer_ended) return 0;
  if (c->closing) return discard(c);
  if (c->used == kBufferSize) return c->ready > 0 ? 0 : -EMSGSIZE; /* no line is that long */
  char* const end = c->buffer + c->used;
  const ssize_t n = tlsbroker_read(c->tls, end, kBufferSize - c->used);
  if (n == -EAGAIN) return 0;
  /* The stream was cut (TLSBROKER_E_TRUNCATED) or failed: half a line gets no answer. */
  if (n < 0) return (int)n;
  c->used += (size_t)n;
  if (n == 0) {
    /* The end is authenticated: this is all that the peer wanted to send, so the last line is
     * complete, also without a newline. */
    c->peer_ended = true;
    answer_up_to(c, c->used);
    return 1;
  }
  const char* const newline = memrchr(end, '\n', (size_t)n);
  if (newline != NULL) answer_up_to(c, (size_t)(newline + 1 - c->buffer));
  return 1;
}

static int send_answers(struct connection* c) {
  if (c->ready == 0) return 0;
  const ssize_t n = tlsbroker_write(c->tls, c->buffer, c->ready, 0);
  if (n == -EAGAIN) return 0;
  if (n < 0) return (int)n;
  c->ready -= (size_t)n;
  c->used -= (size_t)n;
  memmove(c->buffer, c->buffer + n, c->used);
  return 1;
}

static bool wants_to_end(const struct connection* c) {
  return !c->ended && (c->peer_ended || c->closing);
}

static int end_when_done(struct connection* c) {
  if (!wants_to_end(c) || c->ready > 0) return 0;
  const int result = tlsbroker_end_write(c->tls);
  /* No event tells when -ETOOMANYREFS is over: look_at_all() tries again. */
  if (result == -EAGAIN || result == -ETOOMANYREFS) return 0;
  if (result < 0) return result;
  c->ended = true;
  return 1;
}

/* ---- The life of a connection ---- */

/* Ends and frees `c`. `error` says why the connection is not complete; 0: it is. */
static void finish(struct loop* loop, struct connection* c, int error) {
  /* Closing the descriptor does not take it out of epoll: the open file lives on while a copy of
   * the descriptor is on its way to the broker, which is how a relayed connection ends. */
  if (epoll_ctl(loop->epoll, EPOLL_CTL_DEL, tlsbroker_conn_fd(c->tls), NULL) < 0) die("epoll_ctl");
  LIST_REMOVE(c, link);
  if (c->ended) {
    /* The peer was told that it has everything. If the peer leaves without an end of its own the
     * result is negative, but nothing is lost. */
    (void)tlsbroker_close(c->tls, 0);
  } else {
    /* The peer must not take a part for the whole. (The text is an address: nothing to escape.) */
    complain(tlsbroker_conn_peer_text(c->tls), error);
    tlsbroker_abort(c->tls);
  }
  free(c);
}

/* Returns 0 or -errno. The first event comes at once, with what the connection is ready for. */
static int watch(struct loop* loop, int operation, struct connection* c) {
  struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLET, .data.ptr = c};
  return epoll_ctl(loop->epoll, operation, tlsbroker_conn_fd(c->tls), &event) < 0 ? -errno : 0;
}

/* Does all that can be done now. May free `c`, and no other connection. */
static void turn(struct loop* loop, struct connection* c) {
  static int (*const kSteps[])(struct connection*) = {receive, send_answers, end_when_done};
  for (int round = 0; round < kRounds; round++) {
    bool progress = false;
    for (size_t i = 0; i < sizeof(kSteps) / sizeof(kSteps[0]); i++) {
      const int result = kSteps[i](c);
      if (result < 0) {
        finish(loop, c, result);
        return;
      }
      progress |= result > 0;
    }
    if (c->ended && c->peer_ended) {
      finish(loop, c, 0);
      return;
    }
    if (!progress) return; /* reading and writing gave -EAGAIN, or wait for each other */
    if (!c->closing) c->deadline = now_ms() + kIdleMs;
  }
  /* A peer that is as fast as we are must not keep the others waiting. Setting the same events
   * again makes epoll report this connection once more, behind those that are ready now. */
  const int result = watch(loop, EPOLL_CTL_MOD, c);
  if (result < 0) finish(loop, c, result);
}

static void add_connection(struct loop* loop, tlsbroker_conn* tls) {
  struct connection* const c = calloc(1, sizeof(*c));
  int result = c != NULL ? tlsbroker_conn_set_nonblocking(tls, 1) : -ENOMEM;
  if (result == 0) {
    c->tls = tls;
    c->deadline = now_ms() + kIdleMs;
    result = watch(loop, EPOLL_CTL_ADD, c);
  }
  if (result < 0) {
    complain(tlsbroker_conn_peer_text(tls), result);
    tlsbroker_abort(tls);
    free(c);
    return;
  }
  LIST_INSERT_HEAD(&loop->connections, c, link);
}

/* ---- The loop ---- */

/* The queue is taken out of epoll instead of being watched for no events: its end is reported
 * whatever events one asks for. */
static void watch_queue(struct loop* loop, bool wanted) {
  if (wanted == loop->queue_watched) return;
  struct epoll_event event = {.events = EPOLLIN, .data.ptr = loop->queue};
  const int operation = wanted ? EPOLL_CTL_ADD : EPOLL_CTL_DEL;
  if (epoll_ctl(loop->epoll, operation, tlsbroker_queue_fd(loop->queue), &event) < 0) {
    die("epoll_ctl");
  }
  loop->queue_watched = wanted;
}

/* Takes one connection at a time, so that other workers of the service get theirs. The queue is
 * level-triggered. */
static void accept_one(struct loop* loop) {
  tlsbroker_conn* tls = NULL;
  const int result = tlsbroker_accept(loop->queue, TLSBROKER_DONTWAIT, &tls);
  if (result == 0) add_connection(loop, tls);
  if (result == 0 || result == -EAGAIN) return;
  complain("accept", result);
  if (result == TLSBROKER_E_HANDOFF) return;
  if (result == TLSBROKER_E_GONE) loop->accepting = false;
  /* Otherwise there are too many descriptors (-EMFILE) or the like. The connection keeps waiting;
   * the queue is not watched until look_at_all(), so that the loop does not spin on it. */
  watch_queue(loop, false);
}

static void take_signal(struct loop* loop) {
  struct signalfd_siginfo info;
  if (read(loop->signals, &info, sizeof(info)) < 0 && errno != EAGAIN) die("signalfd");
  loop->accepting = false;
  loop->stopping = true;
  loop->next_look = 0;
  watch_queue(loop, false);
}

/* Does what no event reports: what depends on the time. */
static void look_at_all(struct loop* loop) {
  const int64_t now = now_ms();
  struct connection* next;
  for (struct connection* c = LIST_FIRST(&loop->connections); c != NULL; c = next) {
    next = LIST_NEXT(c, link);
    const bool late = now >= c->deadline;
    if (late && (c->closing || c->used > 0)) {
      finish(loop, c, -ETIMEDOUT); /* in a line, or with answers that the peer does not read */
    } else if (!c->closing && (late || loop->stopping)) {
      c->closing = true;
      c->deadline = now + kLingerMs;
      turn(loop, c);
    } else if (wants_to_end(c)) {
      turn(loop, c);
    }
  }
  watch_queue(loop, loop->accepting);
  loop->next_look = now + kTickMs;
}

static void dispatch(struct loop* loop, void* what) {
  if (what == loop->queue) {
    if (loop->queue_watched) accept_one(loop); /* a signal may have come just before */
  } else if (what == &loop->signals) {
    take_signal(loop);
  } else {
    turn(loop, what);
  }
}

static int wait_ms(const struct loop* loop) {
  if (LIST_EMPTY(&loop->connections) && loop->queue_watched) return -1;
  const int64_t left = loop->next_look - now_ms();
  return left > 0 ? (int)left : 0;
}

/* An event must not reach a connection that is freed: dispatch() frees only the connection of its
 * event, which is in `events` once, and look_at_all() runs after all events. */
static void run(struct loop* loop) {
  while (loop->accepting || !LIST_EMPTY(&loop->connections)) {
    struct epoll_event events[kEvents];
    const int count = epoll_wait(loop->epoll, events, kEvents, wait_ms(loop));
    if (count < 0 && errno != EINTR) die("epoll_wait");
    for (int i = 0; i < count; i++) dispatch(loop, events[i].data.ptr);
    if (now_ms() >= loop->next_look) look_at_all(loop);
  }
}

/* Signals come as events, so they interrupt nothing. */
static void watch_signals(struct loop* loop) {
  sigset_t ends;
  sigemptyset(&ends);
  sigaddset(&ends, SIGTERM);
  sigaddset(&ends, SIGINT);
  if (sigprocmask(SIG_BLOCK, &ends, NULL) < 0) die("sigprocmask");
  loop->signals = signalfd(-1, &ends, SFD_CLOEXEC | SFD_NONBLOCK);
  if (loop->signals < 0) die("signalfd");
  struct epoll_event event = {.events = EPOLLIN, .data.ptr = &loop->signals};
  if (epoll_ctl(loop->epoll, EPOLL_CTL_ADD, loop->signals, &event) < 0) die("epoll_ctl");
}

int main(void) {
  struct loop loop = {.accepting = true};
  LIST_INIT(&loop.connections);
  if (signal(SIGPIPE, SIG_IGN) == SIG_ERR) die("signal"); /* when the log has no reader */
  const int result = tlsbroker_queue_from_environment(NULL, &loop.queue);
  if (result < 0) {
    complain("no queue (tlsbrokerd starts this program)", result);
    return 1;
  }
  loop.epoll = epoll_create1(EPOLL_CLOEXEC);
  if (loop.epoll < 0) die("epoll_create1");
  watch_signals(&loop);
  watch_queue(&loop, true);
  run(&loop);
  tlsbroker_queue_free(loop.queue);
  close(loop.signals);
  close(loop.epoll);
  return 0;
}
