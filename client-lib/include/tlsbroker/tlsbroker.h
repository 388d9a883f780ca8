/* SPDX-License-Identifier: Apache-2.0 */
/*
 * libtlsbroker: what a worker needs to serve connections that tlsbroker hands to it. No TLS
 * library, no key material: the kernel or the broker does the TLS records. protocol/PROTOCOL.md
 * describes what these functions do on the wire; tlsbroker(3) is the manual page.
 *
 *     tlsbroker_queue *queue;
 *     tlsbroker_conn *conn;
 *     if (tlsbroker_queue_from_environment("web", &queue) < 0) return 1;
 *     while (tlsbroker_accept(queue, 0, &conn) == 0) {
 *       tlsbroker_write(conn, "hello\n", 6, 0);
 *       tlsbroker_close(conn, -1);
 *     }
 *
 * Results. Functions that can fail return an int or ssize_t that is negative then: -errno
 * (-EAGAIN, -EPIPE, ...) or one of the TLSBROKER_E_ values. errno itself is not part of the
 * interface. No function returns -EINTR: a call that a signal interrupts is started again.
 *
 * Blocking. Connections come in blocking mode. "Blocks" below means that the call waits; after
 * tlsbroker_conn_set_nonblocking() it returns -EAGAIN instead.
 *
 * Signals. No function raises SIGPIPE, except tlsbroker_sendfile() and the splicing ones: programs
 * that use them ignore SIGPIPE, since sendfile(2) and splice(2) have no flag for that.
 *
 * Threads. Any number of threads may call tlsbroker_accept() on one queue. On one connection one
 * thread may read and another one write at the same time; tlsbroker_close(), tlsbroker_abort() and
 * tlsbroker_forget() need it alone, since they free it. Different connections do not touch each
 * other.
 *
 * Versions. Within the soname functions and enumerators are only added.
 */
#ifndef TLSBROKER_TLSBROKER_H_
#define TLSBROKER_TLSBROKER_H_

#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <sys/uio.h>

#ifdef __cplusplus
extern "C" {
#endif

#define TLSBROKER_API __attribute__((visibility("default")))

typedef struct tlsbroker_queue tlsbroker_queue;
typedef struct tlsbroker_conn tlsbroker_conn;

/* Results beside -errno, all below any -errno. */
enum tlsbroker_result {
  /* The stream stops without the peer's close_notify: a crash, a reset, or somebody on the way who
   * cut it. What was read may be a part only. In relay and bridge mode this also stands for
   * whatever else ended the connection there: the peer's alert, a record that is not allowed, the
   * end of the broker itself. */
  TLSBROKER_E_TRUNCATED = -5001,
  /* The peer sent a fatal alert; tlsbroker_conn_alert() has its number. (Direct mode only:
   * elsewhere the broker reads alerts, and the result is TLSBROKER_E_TRUNCATED.) */
  TLSBROKER_E_ALERT = -5002,
  /* The peer changed its keys (TLS 1.3 KeyUpdate, RFC 8446 section 4.6.3), or ours had to be
   * changed, and that is not possible: the kernel is older than 6.14, the broker that made the
   * connection does not answer any more, or the queue is one of tlsbroker_queue_from_fd(). The
   * peer was told with the fatal alert internal_error. (Direct mode only: elsewhere the broker
   * follows.) */
  TLSBROKER_E_REKEY = -5003,
  /* The peer sent a record that is not allowed here, one that does not authenticate, is too long or
   * has another version, or too many KeyUpdates or records without data. It was told with the alert
   * of RFC 8446 section 6. (Direct mode only: elsewhere the result is TLSBROKER_E_TRUNCATED.) */
  TLSBROKER_E_PROTOCOL = -5004,
  /* A hand-off that is malformed, of a version that this library does not know, or that lost its
   * descriptor for lack of free ones. It was dropped; the next one may be fine. */
  TLSBROKER_E_HANDOFF = -5005,
  /* The queue is at its end: the broker that started this worker is gone for good and no further
   * connection will come. */
  TLSBROKER_E_GONE = -5006,

  /* From here on: why tlsbroker_wrap() and tlsbroker_dial() give no connection. */

  /* The service's `wrap` or `dial` in the configuration does not allow it, or the queue has no
   * socket for requests. */
  TLSBROKER_E_NOT_ALLOWED = -5007,
  /* As many such requests are under way as there may be. */
  TLSBROKER_E_BUSY = -5008,
  /* The upstream's address does not answer, or refuses. */
  TLSBROKER_E_CONNECT = -5009,
  TLSBROKER_E_TIMEOUT = -5010,
  /* No common version or suite, or the other side sent an alert. */
  TLSBROKER_E_HANDSHAKE = -5011,
  /* The server's certificate: for another name; not valid now; self-signed; of an authority that is
   * not trusted; with none of the keys that the configuration pins; wrong in another way. */
  TLSBROKER_E_WRONG_NAME = -5012,
  TLSBROKER_E_EXPIRED = -5013,
  TLSBROKER_E_SELF_SIGNED = -5014,
  TLSBROKER_E_UNKNOWN_CA = -5015,
  TLSBROKER_E_PIN = -5016,
  TLSBROKER_E_CERTIFICATE = -5017,
  /* The service requires kernel TLS and there is none, or too many connections are relayed. */
  TLSBROKER_E_KTLS = -5018,
  /* Something failed in the broker, whose log says what. */
  TLSBROKER_E_BROKER = -5019,
};

/* A static English sentence without a full stop, for a negative result of any function here. Safe
 * in all threads. */
TLSBROKER_API const char* tlsbroker_strerror(int result);

/* ---- The queue: takes the place of a listening socket ----
 *
 * All workers of a service hold the same queue, and have to trust each other: each can take every
 * connection, and shut the queue down for all. A worker that has no filter against it can also copy
 * connections that others then serve (recvmsg(2) with MSG_PEEK), and read and write their
 * plaintext. Workers that the broker started cannot, nor can those of tlsbroker_attach(). Programs
 * that must not trust each other belong to two services (PROTOCOL.md section 1.3).
 */

/*
 * Finds the queue of `service` among the descriptors that the supervisor passed (LISTEN_PID,
 * LISTEN_FDS, LISTEN_FDNAMES as in sd_listen_fds(3); the name is "tlsbroker.SERVICE"). With service
 * NULL it is the first whose name starts with "tlsbroker.". Also takes the socket
 * "tlsbroker-requests.SERVICE" beside it, which connections need to follow KeyUpdates. Makes all
 * passed descriptors close-on-exec and unsets the variables, also when it fails afterwards: call it
 * once, early, before other threads use the environment.
 *
 * Returns 0; -ENOENT: there is none, or the variables are meant for another process; -ENOTSOCK,
 * -EPROTOTYPE: the descriptor is not a SOCK_SEQPACKET Unix socket; -ENOMEM. Does not block.
 */
TLSBROKER_API int tlsbroker_queue_from_environment(const char* service, tlsbroker_queue** queue);

/*
 * Makes a queue of a descriptor that the program got some other way. Takes the descriptor if it
 * returns 0; if it fails (-EBADF, -ENOTSOCK, -EPROTOTYPE, -ENOMEM) it stays the caller's. It has no
 * socket for requests: its direct connections cannot follow KeyUpdates.
 */
TLSBROKER_API int tlsbroker_queue_from_fd(int fd, tlsbroker_queue** queue);

/*
 * Attaches to a service of a broker that did not start this program. `path` is SERVICE.sock in the
 * broker's runtime directory, such as "/run/tlsbroker/web.sock".
 *
 * First gives up, in all threads, for good, and for all programs that are started from now on: the
 * keys of connections (getsockopt and setsockopt with SOL_TLS, TCP_ULP), copying what waits for
 * other workers (recvmsg(2) and recvmmsg(2) with MSG_PEEK, on any socket; recv(2) with it works),
 * io_uring, the 32-bit and x32 system calls, and gaining privileges by exec (no_new_privs). What is
 * refused fails with EPERM. PROTOCOL.md sections 1.1 and 1.3 say why.
 *
 * When the broker is gone the queue stays, and attaches itself again when a broker is there: after
 * a restart tlsbroker_accept() goes on where it was, and never gives TLSBROKER_E_GONE. Connections
 * that the old broker relayed have ended; direct ones go on, but their keys cannot change any more
 * (TLSBROKER_E_REKEY). A call that fails may leave the filter in place.
 *
 * Returns 0; -EACCES: this user is not in allow_users or allow_groups; -EUSERS: too many are
 * attached; -ENOENT, -ECONNREFUSED: no broker serves this; TLSBROKER_E_HANDOFF: something else
 * answers there; -ENAMETOOLONG; -EINVAL, -ENOSYS: a kernel without seccomp filters; -ENOMEM; other
 * -errno of connect(2). Blocks until the broker answers.
 */
TLSBROKER_API int tlsbroker_attach(const char* path, tlsbroker_queue** queue);

/*
 * The descriptor, for poll(2) and its like, the same for as long as the queue lives: readable when
 * a connection waits, and for a queue of tlsbroker_attach() also when there is something to do to
 * find the broker again, which tlsbroker_accept() with TLSBROKER_DONTWAIT does. It stays the
 * queue's. Do not set O_NONBLOCK on it: the flag would hold for all workers of the service.
 *
 * Several workers may have it in epoll(7) sets with EPOLLEXCLUSIVE, so that a connection does not
 * wake all of them. Not for a queue of tlsbroker_attach(), whose descriptor is an epoll instance
 * itself: epoll_ctl(2) then gives EINVAL. Leave the flag out there; each worker that waits is
 * woken, and tlsbroker_accept() with TLSBROKER_DONTWAIT gives -EAGAIN to all but one.
 */
TLSBROKER_API int tlsbroker_queue_fd(const tlsbroker_queue* queue);

/* Closes the queue in this process and frees it; NULL is allowed. Connections that were taken
 * stay. */
TLSBROKER_API void tlsbroker_queue_free(tlsbroker_queue* queue);

/* For tlsbroker_accept(): -EAGAIN instead of waiting. */
#define TLSBROKER_DONTWAIT 0x1u

/*
 * Takes the next connection, which is then owned by the caller until tlsbroker_close(),
 * tlsbroker_abort() or tlsbroker_forget(). Blocks, unless `flags` has TLSBROKER_DONTWAIT.
 *
 * Returns 0; -EAGAIN: nothing waits, which is normal after poll(2) too, since another worker may
 * have been faster; -EMFILE, -ENFILE: no free descriptor, the connection keeps waiting;
 * TLSBROKER_E_HANDOFF: go on with the next; TLSBROKER_E_GONE: finish; -EINVAL: unknown flags;
 * -ENOMEM: that connection is lost. For a queue of tlsbroker_attach(), when a restarted broker has
 * other rules, also the results of that function, such as -EACCES; a further call tries again, but
 * not before a pause.
 */
TLSBROKER_API int tlsbroker_accept(tlsbroker_queue* queue, unsigned flags, tlsbroker_conn** conn);

/* ---- Connections that do not come from the queue ---- */

enum tlsbroker_role { TLSBROKER_SERVER = 1, TLSBROKER_CLIENT = 2 };

struct tlsbroker_wrap_options {
  size_t size;             /* sizeof(struct tlsbroker_wrap_options) */
  const char* name;        /* the server's name, or address: verified, and sent as SNI */
  const char* const* alpn; /* in order of preference; may be NULL if alpn_count is 0 */
  size_t alpn_count;       /* at most 16 */
  const char* certificate; /* for servers that ask for one, by its name in the broker's
                            * configuration; NULL: none */
};

/* How long these functions wait for the broker, in milliseconds, before TLSBROKER_E_TIMEOUT. The
 * broker gives up before, after its handshake_timeout. */
#define TLSBROKER_OPEN_TIMEOUT_MS 60000

/*
 * Turns `fd`, a connected TCP socket of the program's own, into a TLS connection: STARTTLS, or a
 * client. The next byte that either side sends belongs to the handshake, so before this call read
 * not a byte beyond the plain-text dialogue. The broker does the handshake, during this call.
 *
 * TLSBROKER_SERVER: with the service's certificates, policy and protocols; `options` is NULL. Needs
 * wrap = ["server"] in the service's configuration.
 * TLSBROKER_CLIENT: verifies the server's certificate by `options->name` and the certificates that
 * the broker trusts; `options` is not NULL. Needs wrap = ["client"], and a certificate that is in
 * the service's client_certificates.
 *
 * Takes `fd` if it returns 0, and *conn is owned by the caller as one of tlsbroker_accept(). In
 * direct mode it is the same socket. If it fails `fd` stays the caller's; after anything but
 * -EINVAL, -EPROTOTYPE, -EMFILE, TLSBROKER_E_NOT_ALLOWED and TLSBROKER_E_BUSY it is only good for
 * closing.
 *
 * Returns 0; -EINVAL: options that cannot be; -EPROTOTYPE: no connected TCP socket; -EMFILE;
 * TLSBROKER_E_TRUNCATED: the other side is gone; the TLSBROKER_E_ values from NOT_ALLOWED on;
 * -ENOMEM. Blocks until the handshake is over.
 */
TLSBROKER_API int tlsbroker_wrap(tlsbroker_queue* queue, int fd, enum tlsbroker_role role,
                                 const struct tlsbroker_wrap_options* options,
                                 tlsbroker_conn** conn);

/*
 * Connects to the server [upstream.NAME] of the broker's configuration, for programs that have no
 * network: the configuration says its address, its name, what is trusted, and which services may
 * connect (their `dial`).
 *
 * Returns as tlsbroker_wrap(). tlsbroker_conn_peer() is the server. Blocks until the handshake is
 * over.
 */
TLSBROKER_API int tlsbroker_dial(tlsbroker_queue* queue, const char* upstream,
                                 tlsbroker_conn** conn);

/* ---- What the connection is ----
 *
 * From the hand-off (PROTOCOL.md section 2). Strings and pointers belong to the connection and live
 * as long. Strings are NULL where the field is absent. They hold what the peer sent, without NUL
 * but with anything else: escape them.
 */

enum tlsbroker_mode {
  TLSBROKER_DIRECT = 1, /* the TCP socket; the kernel does the records */
  TLSBROKER_BRIDGE =
      2, /* a socketpair; an unprivileged process moves the bytes, the kernel does the records */
  TLSBROKER_RELAY = 3, /* a socketpair; the broker does the records */
};

TLSBROKER_API enum tlsbroker_mode tlsbroker_conn_mode(const tlsbroker_conn* conn);
/* "direct", "bridge", "relay" */
TLSBROKER_API const char* tlsbroker_conn_mode_name(const tlsbroker_conn* conn);
/* Why not direct, a token like "kernel-no-tls-ulp"; NULL in direct mode. */
TLSBROKER_API const char* tlsbroker_conn_reason(const tlsbroker_conn* conn);
/* The service's name in the broker's configuration. Never NULL. */
TLSBROKER_API const char* tlsbroker_conn_service(const tlsbroker_conn* conn);
/* 16 bytes that name the connection in the broker's log ("conn=", in hexadecimal). */
TLSBROKER_API const uint8_t* tlsbroker_conn_unique_id(const tlsbroker_conn* conn);

/* struct sockaddr_in or sockaddr_in6, by sa_family. Never NULL. */
TLSBROKER_API const struct sockaddr* tlsbroker_conn_peer(const tlsbroker_conn* conn);
TLSBROKER_API const struct sockaddr* tlsbroker_conn_local(const tlsbroker_conn* conn);
/* "192.0.2.1:443", "[2001:db8::1]:443". Never NULL. */
TLSBROKER_API const char* tlsbroker_conn_peer_text(const tlsbroker_conn* conn);
TLSBROKER_API const char* tlsbroker_conn_local_text(const tlsbroker_conn* conn);

TLSBROKER_API const char* tlsbroker_conn_tls_version(const tlsbroker_conn* conn); /* "TLSv1.3" */
TLSBROKER_API const char* tlsbroker_conn_cipher(const tlsbroker_conn* conn); /* OpenSSL's name */
TLSBROKER_API const char* tlsbroker_conn_group(const tlsbroker_conn* conn);  /* "x25519" */
/* Of the server certificate: "EC256", "RSA2048", "ED25519". */
TLSBROKER_API const char* tlsbroker_conn_key_algorithm(const tlsbroker_conn* conn);
TLSBROKER_API const char* tlsbroker_conn_alpn(const tlsbroker_conn* conn);
TLSBROKER_API const char* tlsbroker_conn_server_name(const tlsbroker_conn* conn); /* SNI */
/* 1 if the session was resumed, else 0. */
TLSBROKER_API int tlsbroker_conn_resumed(const tlsbroker_conn* conn);

/* 1 only if the client showed a certificate and the broker verified it. */
TLSBROKER_API int tlsbroker_conn_client_verified(const tlsbroker_conn* conn);
TLSBROKER_API const char* tlsbroker_conn_client_common_name(const tlsbroker_conn* conn);
/* DER, `*size` bytes; NULL and 0 if there is none. */
TLSBROKER_API const void* tlsbroker_conn_client_certificate(const tlsbroker_conn* conn,
                                                            size_t* size);

/* The opaque rekey token that came with the connection, `*size` bytes; NULL and 0 if there is none:
 * then a KeyUpdate cannot be followed. For logs; this library keeps the current one itself. */
TLSBROKER_API const void* tlsbroker_conn_rekey_token(const tlsbroker_conn* conn, size_t* size);

/* ---- Reading and writing ---- */

/*
 * The connection's descriptor, for poll(2) and its like. It stays the connection's: do not close
 * it. In direct mode never call getsockopt or setsockopt with SOL_TLS on it. Readable may also mean
 * that an end or an error is there to be read, or (kernel 6.1) only a part of a record: then
 * tlsbroker_read() gives -EAGAIN.
 *
 * Remove it from epoll(7) sets with EPOLL_CTL_DEL before the connection is closed, in whatever way.
 * The end of a relayed connection carries a copy of the descriptor to the broker, and so does a
 * request for keys: until the broker has closed that copy, epoll goes on reporting a connection
 * that is freed.
 */
TLSBROKER_API int tlsbroker_conn_fd(const tlsbroker_conn* conn);

/* fcntl(2) O_NONBLOCK on (1) or off (0). Returns 0 or -errno. */
TLSBROKER_API int tlsbroker_conn_set_nonblocking(tlsbroker_conn* conn, int nonblocking);

/* How long a call may wait for the broker, in milliseconds, non-blocking mode or not, when keys
 * have to change. That is rare, and usually over in less than one millisecond. */
#define TLSBROKER_REKEY_TIMEOUT_MS 5000

/*
 * Reads up to `size` bytes. Blocks until there is something. Follows the peer's KeyUpdates, up to
 * eight in a second: more are TLSBROKER_E_PROTOCOL.
 *
 *   > 0                    that many bytes
 *   0                      the peer's authenticated end (close_notify), after all that it sent;
 *                          writing is still possible, unless a reset came behind it
 *   TLSBROKER_E_TRUNCATED  the stream was cut
 *   TLSBROKER_E_ALERT      the peer's fatal alert
 *   TLSBROKER_E_REKEY, TLSBROKER_E_PROTOCOL
 *   -EAGAIN                nothing yet
 *   -EINVAL                size is 0
 *   other -errno           recvmsg(2)
 *
 * In direct mode the kernel itself takes records without data and waits on, however many come: only
 * tlsbroker_splice_read() sees each, and ends with TLSBROKER_E_PROTOCOL after 32 in a row.
 *
 * 0 and the TLSBROKER_E_ results repeat at each further call; after one of the latter the
 * connection is only good for closing.
 */
TLSBROKER_API ssize_t tlsbroker_read(tlsbroker_conn* conn, void* buffer, size_t size);

/* The number of the peer's fatal alert (RFC 8446 section 6) after TLSBROKER_E_ALERT, else -1. */
TLSBROKER_API int tlsbroker_conn_alert(const tlsbroker_conn* conn);

/* Flag for writing: more follows at once, so the kernel may keep a record back until then
 * (MSG_MORE). */
#define TLSBROKER_MORE 0x1u

/*
 * Writes up to `size` bytes and returns how many were taken; fewer than `size` only when
 * non-blocking or near an error. Blocks while there is no room.
 *
 * In direct mode sends a KeyUpdate before, when the peer has asked for one or the key has sealed
 * 2^23 records (RFC 8446 section 5.5). Where keys cannot change, TLS 1.3 with AES-GCM ends after
 * 2^24.5 records with TLSBROKER_E_REKEY.
 *
 * -EAGAIN: no room; -EPIPE, -ECONNRESET: the peer is gone, reading failed before, or this direction
 * was ended; -EINVAL: unknown flags; TLSBROKER_E_REKEY: the connection is only good for closing;
 * other -errno of sendmsg(2). That bytes were taken does not say that the peer got them.
 */
TLSBROKER_API ssize_t tlsbroker_write(tlsbroker_conn* conn, const void* buffer, size_t size,
                                      unsigned flags);
TLSBROKER_API ssize_t tlsbroker_writev(tlsbroker_conn* conn, const struct iovec* parts, int count,
                                       unsigned flags);

/*
 * sendfile(2) into the connection, in every mode. `offset` as there: NULL uses and moves the file's
 * own. Returns the number of bytes taken, which may be less than `size`; 0 at the end of the file.
 * Errors as for tlsbroker_write() and of sendfile(2). May raise SIGPIPE.
 */
TLSBROKER_API ssize_t tlsbroker_sendfile(tlsbroker_conn* conn, int file, off_t* offset,
                                         size_t size);

/*
 * Moves up to `size` bytes into a pipe, or out of one into the connection, by splice(2): nothing is
 * copied through the program, and control records of the peer are handled as in tlsbroker_read().
 * For programs that stand between a connection and another process.
 *
 * tlsbroker_splice_read() returns as tlsbroker_read(). -EAGAIN: nothing came yet, or the pipe is
 * full: poll(2) the pipe to tell which; -EPIPE: the pipe has no reader; -EINVAL: `pipe` is not the
 * writing end of one.
 *
 * tlsbroker_splice_write() returns as tlsbroker_write(); 0: the pipe is empty and has no writer;
 * -EAGAIN: the pipe is empty, or there is no room. May raise SIGPIPE, as tlsbroker_sendfile().
 *
 * They block unless the connection, or the pipe, is non-blocking.
 */
TLSBROKER_API ssize_t tlsbroker_splice_read(tlsbroker_conn* conn, int pipe, size_t size);
TLSBROKER_API ssize_t tlsbroker_splice_write(tlsbroker_conn* conn, int pipe, size_t size);

/*
 * Changes the keys of what is written now, by a KeyUpdate (RFC 8446 section 4.6.3). The library
 * does so by itself when the peer asks for it, and before a key has sealed as much as it may
 * (section 5.5): this is for programs that want it more often. Belongs to the writing thread.
 *
 * Returns 0; -EAGAIN: no room for the KeyUpdate; -EOPNOTSUPP: TLS 1.2, a kernel before 6.14, or not
 * direct mode, where the broker decides; -EPIPE: this direction was ended; TLSBROKER_E_REKEY.
 * Blocks as tlsbroker_write() does.
 */
TLSBROKER_API int tlsbroker_update_keys(tlsbroker_conn* conn);

/* ---- Ending ---- */

/*
 * Ends the worker's direction in an authenticated way: the peer gets close_notify behind all that
 * was written. Reading goes on. Calling it again does nothing. Blocks while there is no room.
 *
 * Returns 0; -EAGAIN: call again when poll(2) shows POLLOUT; -EPIPE, -ECONNRESET: the peer is gone;
 * -ETOOMANYREFS (relay, bridge): too many of this user's ends are on their way (RLIMIT_NOFILE),
 * call again later; other -errno of sendmsg(2).
 */
TLSBROKER_API int tlsbroker_end_write(tlsbroker_conn* conn);

/* How long tlsbroker_close() waits with a negative limit, in milliseconds. */
#define TLSBROKER_CLOSE_TIMEOUT_MS 2000

/*
 * The clean close: ends the worker's direction if it has not ended yet, and in direct mode discards
 * what the peer still sends until the peer ends too, because closing a TCP socket with unread data
 * may destroy what was written last. After TLSBROKER_E_PROTOCOL and TLSBROKER_E_REKEY it waits for
 * the peer to close, for the sake of the alert. Then closes the descriptor and frees `conn`,
 * whatever it returns; NULL is allowed. Remove the descriptor from epoll(7) sets before; see
 * tlsbroker_conn_fd().
 *
 * Blocks for at most `timeout_ms` in all, non-blocking mode or not; 0: not at all; negative:
 * TLSBROKER_CLOSE_TIMEOUT_MS.
 *
 * Returns 0 if the end was sent; else the peer sees a truncation, or in relay mode the broker's
 * fatal alert: -ETIMEDOUT: there was no room for the end in time; else as tlsbroker_end_write(), or
 * what tlsbroker_read() returned before.
 */
TLSBROKER_API int tlsbroker_close(tlsbroker_conn* conn, int timeout_ms);

/*
 * Closes and frees without an authenticated end. For answers that could not be finished: the peer
 * gets the fatal alert internal_error (relayed with TLS 1.2: bad_record_mac) if there is room for
 * it, and sees a truncation otherwise. In direct mode this function sends it, in relay mode the
 * broker, which does so too when the worker crashes. After tlsbroker_end_write() it only closes:
 * the peer has its end. NULL is allowed. Does not block.
 */
TLSBROKER_API void tlsbroker_abort(tlsbroker_conn* conn);

/*
 * Closes this process' descriptor and frees `conn`, and ends nothing: for a parent whose child
 * serves the connection after fork(2). If no other process has the descriptor the peer sees a
 * truncation, or in relay mode the broker's fatal alert. NULL is allowed. Does not block.
 */
TLSBROKER_API void tlsbroker_forget(tlsbroker_conn* conn);

#ifdef __cplusplus
}
#endif

#endif /* TLSBROKER_TLSBROKER_H_ */
