// SPDX-License-Identifier: Apache-2.0
// The C++ interface of tlsbroker.h: the same calls and results, with owning classes and string
// views. Header only; C++17. Nothing is thrown by this header. What tlsbroker.h says about
// blocking, threads and results holds here too.
//
//     tlsbroker::Queue queue;
//     if (int error = tlsbroker::Queue::FromEnvironment("web", queue); error < 0) return 1;
//     tlsbroker::Connection connection;
//     while (queue.Accept(connection) == 0) {
//       connection.Write("hello\n");
//       connection.Close();
//     }
//
#ifndef TLSBROKER_TLSBROKER_HPP_
#define TLSBROKER_TLSBROKER_HPP_

#include <tlsbroker/tlsbroker.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string_view>
#include <utility>

namespace tlsbroker {
inline namespace v0 {

// Owns one connection. Going out of scope is no clean end: a Connection that is destroyed before
// Close() is aborted, so that an early return or an exception never looks like a finished answer.
class Connection {
 public:
  Connection() = default;
  explicit Connection(tlsbroker_conn* taken) : conn_(taken) {}

  explicit operator bool() const { return conn_ != nullptr; }
  tlsbroker_conn* get() const { return conn_.get(); }

  tlsbroker_mode mode() const { return tlsbroker_conn_mode(get()); }
  std::string_view mode_name() const { return tlsbroker_conn_mode_name(get()); }
  // Absent texts are empty views.
  std::string_view reason() const { return View(tlsbroker_conn_reason(get())); }
  std::string_view service() const { return View(tlsbroker_conn_service(get())); }
  std::string_view peer() const { return tlsbroker_conn_peer_text(get()); }
  std::string_view local() const { return tlsbroker_conn_local_text(get()); }
  std::string_view tls_version() const { return View(tlsbroker_conn_tls_version(get())); }
  std::string_view cipher() const { return View(tlsbroker_conn_cipher(get())); }
  std::string_view group() const { return View(tlsbroker_conn_group(get())); }
  std::string_view key_algorithm() const { return View(tlsbroker_conn_key_algorithm(get())); }
  std::string_view alpn() const { return View(tlsbroker_conn_alpn(get())); }
  std::string_view server_name() const { return View(tlsbroker_conn_server_name(get())); }
  bool resumed() const { return tlsbroker_conn_resumed(get()) != 0; }
  bool client_verified() const { return tlsbroker_conn_client_verified(get()) != 0; }
  std::string_view client_common_name() const {
    return View(tlsbroker_conn_client_common_name(get()));
  }
  std::string_view client_certificate() const {  // DER
    size_t size;
    const void* der = tlsbroker_conn_client_certificate(get(), &size);
    return {static_cast<const char*>(der), size};
  }
  std::string_view unique_id() const {  // 16 bytes, not text
    return {reinterpret_cast<const char*>(tlsbroker_conn_unique_id(get())), 16};
  }

  int fd() const { return tlsbroker_conn_fd(get()); }
  int SetNonblocking(bool on) { return tlsbroker_conn_set_nonblocking(get(), on ? 1 : 0); }

  ssize_t Read(void* buffer, size_t size) { return tlsbroker_read(get(), buffer, size); }
  int alert() const { return tlsbroker_conn_alert(get()); }

  ssize_t Write(std::string_view bytes, unsigned flags = 0) {
    return tlsbroker_write(get(), bytes.data(), bytes.size(), flags);
  }
  ssize_t Writev(const iovec* parts, int count, unsigned flags = 0) {
    return tlsbroker_writev(get(), parts, count, flags);
  }
  ssize_t SendFile(int file, off_t* offset, size_t size) {
    return tlsbroker_sendfile(get(), file, offset, size);
  }

  ssize_t SpliceRead(int pipe, size_t size) { return tlsbroker_splice_read(get(), pipe, size); }
  ssize_t SpliceWrite(int pipe, size_t size) { return tlsbroker_splice_write(get(), pipe, size); }

  int UpdateKeys() { return tlsbroker_update_keys(get()); }

  int EndWrite() { return tlsbroker_end_write(get()); }
  int Close(int timeout_ms = -1) { return tlsbroker_close(conn_.release(), timeout_ms); }
  void Abort() { conn_.reset(); }
  // For a connection that another process serves (tlsbroker_forget()).
  void Forget() { tlsbroker_forget(conn_.release()); }

 private:
  struct Aborter {
    void operator()(tlsbroker_conn* conn) const { tlsbroker_abort(conn); }
  };
  static std::string_view View(const char* text) {
    return text == nullptr ? std::string_view() : std::string_view(text);
  }
  std::unique_ptr<tlsbroker_conn, Aborter> conn_;
};

class Queue {
 public:
  Queue() = default;

  // `service` may be nullptr.
  static int FromEnvironment(const char* service, Queue& queue) {
    return Fill(queue, [=](tlsbroker_queue** made) {
      return tlsbroker_queue_from_environment(service, made);
    });
  }
  // Takes `fd` if it returns 0.
  static int FromFd(int fd, Queue& queue) {
    return Fill(queue, [=](tlsbroker_queue** made) { return tlsbroker_queue_from_fd(fd, made); });
  }

  static int Attach(const char* path, Queue& queue) {
    return Fill(queue, [=](tlsbroker_queue** made) { return tlsbroker_attach(path, made); });
  }

  explicit operator bool() const { return queue_ != nullptr; }
  int fd() const { return tlsbroker_queue_fd(queue_.get()); }

  // A connection that `connection` held before is aborted when the new one is there.
  int Accept(Connection& connection, unsigned flags = 0) {
    tlsbroker_conn* taken = nullptr;
    const int result = tlsbroker_accept(queue_.get(), flags, &taken);
    if (result == 0) connection = Connection(taken);
    return result;
  }

  // Takes `fd` if it returns 0. `options` is for clients, and nullptr for servers.
  int Wrap(int fd, tlsbroker_role role, const tlsbroker_wrap_options* options,
           Connection& connection) {
    tlsbroker_conn* opened = nullptr;
    const int result = tlsbroker_wrap(queue_.get(), fd, role, options, &opened);
    if (result == 0) connection = Connection(opened);
    return result;
  }

  int Dial(const char* upstream, Connection& connection) {
    tlsbroker_conn* opened = nullptr;
    const int result = tlsbroker_dial(queue_.get(), upstream, &opened);
    if (result == 0) connection = Connection(opened);
    return result;
  }

 private:
  struct Freer {
    void operator()(tlsbroker_queue* queue) const { tlsbroker_queue_free(queue); }
  };
  template <typename Make>
  static int Fill(Queue& queue, Make make) {
    tlsbroker_queue* made = nullptr;
    const int result = make(&made);
    if (result == 0) queue.queue_.reset(made);
    return result;
  }
  std::unique_ptr<tlsbroker_queue, Freer> queue_;
};

inline std::string_view ResultText(ssize_t result) {
  return tlsbroker_strerror(static_cast<int>(result));
}

}  // namespace v0
}  // namespace tlsbroker

#endif  // TLSBROKER_TLSBROKER_HPP_
