// SPDX-License-Identifier: Apache-2.0
// The plain server of the benchmarks. It links no TLS library.
//   bench-server tcp PORT    listens
//   bench-server worker      takes connections from tlsbroker
//   bench-server stdio       serves its standard input and output

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <sys/socket.h>
#include <tlsbroker/tlsbroker.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <string_view>

#include "tests/bench/programs/service.h"

namespace tlsbroker::bench {
namespace {

class BrokerStream : public Stream {
 public:
  explicit BrokerStream(tlsbroker_conn* conn) : conn_(conn) {}
  ~BrokerStream() override { tlsbroker_close(conn_, 0); }
  BrokerStream(const BrokerStream&) = delete;
  BrokerStream& operator=(const BrokerStream&) = delete;
  int fd() const override { return tlsbroker_conn_fd(conn_); }
  size_t Read(void* buffer, size_t size) override {
    const ssize_t n = tlsbroker_read(conn_, buffer, size);
    return n < 0 ? 0 : static_cast<size_t>(n);
  }
  bool WriteAll(const void* bytes, size_t size) override {
    const auto* next = static_cast<const char*>(bytes);
    while (size > 0) {
      const ssize_t n = tlsbroker_write(conn_, next, size, 0);
      if (n <= 0) return false;
      next += n;
      size -= static_cast<size_t>(n);
    }
    return true;
  }
  bool SendFileAll(int file, size_t size) override {
    off_t offset = 0;
    while (size > 0) {
      const ssize_t n = tlsbroker_sendfile(conn_, file, &offset, size);
      if (n <= 0) return false;
      size -= static_cast<size_t>(n);
    }
    return true;
  }
  void End() override { (void)tlsbroker_end_write(conn_); }

 private:
  tlsbroker_conn* conn_;
};

int ServeTcp(uint16_t port) {
  const int listener = Listen(port);
  ServeForever(listener, [listener]() -> std::unique_ptr<Stream> {
    UniqueFd fd(accept4(listener, nullptr, nullptr, SOCK_CLOEXEC));
    if (!fd) return nullptr;
    const int on = 1;
    setsockopt(fd.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    return std::make_unique<FdStream>(std::move(fd));
  });
}

int ServeQueue() {
  tlsbroker_queue* queue = nullptr;
  if (const int error = tlsbroker_queue_from_environment(nullptr, &queue); error < 0) {
    fprintf(stderr, "bench-server: no queue: %s\n", tlsbroker_strerror(error));
    return 1;
  }
  ServeForever(tlsbroker_queue_fd(queue), [queue]() -> std::unique_ptr<Stream> {
    tlsbroker_conn* conn = nullptr;
    const int error = tlsbroker_accept(queue, TLSBROKER_DONTWAIT, &conn);
    if (error == TLSBROKER_E_GONE) exit(0);
    if (error < 0) return nullptr;
    return std::make_unique<BrokerStream>(conn);
  });
}

int ServeStdio() {
  FdStream stream(UniqueFd(0), 1);
  const uint64_t now = NowNs();
  while (ServeCommand(stream, now)) {
  }
  return 0;
}

int Run(int argc, char** argv) {
  const std::string_view mode = argc > 1 ? argv[1] : "";
  signal(SIGPIPE, SIG_IGN);
  RaiseDescriptorLimit();
  if (mode == "tcp" && argc == 3) return ServeTcp(static_cast<uint16_t>(atoi(argv[2])));
  if (mode == "worker" && argc == 2) return ServeQueue();
  if (mode == "stdio" && argc == 2) return ServeStdio();
  fprintf(stderr, "usage: bench-server tcp PORT | worker | stdio\n");
  return 2;
}

}  // namespace
}  // namespace tlsbroker::bench

int main(int argc, char** argv) { return tlsbroker::bench::Run(argc, argv); }
