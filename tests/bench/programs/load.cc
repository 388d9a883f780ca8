// SPDX-License-Identifier: Apache-2.0
// The client of the benchmarks.
//   bench-load KIND PORT [OPTION]...
// Each kind gets ready, prints "ready", waits for a line, does its work, prints its result as one
// line of JSON, and waits for the end of its input, with its connections still open. So the program
// that started it can look at the servers at three well-defined moments.
//
//   handshake   --count N connections, each up to the first byte of the answer and to its end
//   handoff     the same, for the time from the client's last handshake byte to the worker
//   exec        the same, where the server speaks first and ends; says how the ends looked
//   send, sendfile, receive   --count N bytes from the server, from its file, to the server
//   roundtrip   --count N times --size N bytes and back
//   idle        opens --count N connections before "ready", and nothing else
//   silent      the same without a handshake; opens again what the server closes
//
// Options: --plain (no TLS), --resumed, --threads N, --tls12 (allow it)

#include <arpa/inet.h>
#include <getopt.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <poll.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "broker/support/openssl_ptr.h"
#include "protocol/unique_fd.h"
#include "tests/bench/programs/service.h"

namespace tlsbroker::bench {
namespace {

struct Options {
  std::string kind;
  uint16_t port = 0;
  uint64_t count = 1;
  size_t size = 1;
  int threads = 1;
  bool plain = false;
  bool resumed = false;
  bool tls12 = false;
};

[[noreturn]] void Die(const char* what) {
  fprintf(stderr, "bench-load: %s (%s)\n", what, strerror(errno));
  ERR_print_errors_fp(stderr);
  _exit(1);
}

// Clients come from many addresses: servers limit the connections of one address, and its ports run
// out.
UniqueFd Connect(uint16_t port, uint64_t number) {
  UniqueFd fd(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const int on = 1;
  setsockopt(fd.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
  setsockopt(fd.get(), IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof(on));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK + 1 + static_cast<uint32_t>(number % 200) +
                                  (static_cast<uint32_t>(number / 200 % 200) << 8));
  if (bind(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)) != 0) Die("bind");
  address.sin_port = htons(port);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  if (connect(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)) != 0) {
    Die("connect");
  }
  return fd;
}

thread_local uint64_t t_last_write = 0;

long StampWrites(BIO* /*bio*/, int operation, const char* /*bytes*/, size_t /*size*/,
                 int /*number*/, long /*long_number*/, int result, size_t* /*processed*/) {
  if (operation == BIO_CB_WRITE) t_last_write = NowNs();
  return result;
}

class Client {
 public:
  Client(const Options& options, SSL_CTX* context, SSL_SESSION* session, uint64_t number)
      : fd_(Connect(options.port, number)) {
    if (options.plain) return;
    ssl_.reset(SSL_new(context));
    SSL_set_fd(ssl_.get(), fd_.get());
    BIO_set_callback_ex(SSL_get_wbio(ssl_.get()), &StampWrites);
    SSL_set_tlsext_host_name(ssl_.get(), "localhost");
    if (session != nullptr) SSL_set_session(ssl_.get(), session);
    if (SSL_connect(ssl_.get()) != 1) Die("handshake");
    finished_at_ = t_last_write;
  }

  uint64_t finished_at() const { return finished_at_; }
  bool resumed() const { return ssl_ && SSL_session_reused(ssl_.get()) == 1; }
  SslSessionPtr Session() const { return SslSessionPtr(SSL_get1_session(ssl_.get())); }

  void Write(std::string_view bytes) {
    size_t n = 0;
    if (ssl_) {
      if (SSL_write_ex(ssl_.get(), bytes.data(), bytes.size(), &n) != 1) Die("write");
      return;
    }
    for (; !bytes.empty(); bytes.remove_prefix(n)) {
      const ssize_t result = write(fd_.get(), bytes.data(), bytes.size());
      if (result <= 0) Die("write");
      n = static_cast<size_t>(result);
    }
  }

  size_t Read(char* buffer, size_t size) {
    size_t n = 0;
    if (ssl_) return SSL_read_ex(ssl_.get(), buffer, size, &n) == 1 ? n : 0;
    const ssize_t result = read(fd_.get(), buffer, size);
    return result < 0 ? 0 : static_cast<size_t>(result);
  }

  void ReadAll(char* buffer, size_t size) {
    for (size_t done = 0; done < size;) {
      const size_t n = Read(buffer + done, size - done);
      if (n == 0) Die("the answer ends early");
      done += n;
    }
  }

  // Reads to the end and says how it looks: "close_notify", "alert" or "cut".
  const char* Ending() {
    char buffer[4096];
    size_t n = 0;
    ERR_clear_error();
    int result;
    while ((result = SSL_read_ex(ssl_.get(), buffer, sizeof(buffer), &n)) == 1) {
    }
    if (SSL_get_error(ssl_.get(), result) == SSL_ERROR_ZERO_RETURN) return "close_notify";
    const int reason = ERR_GET_REASON(ERR_peek_error());
    return reason >= SSL_AD_REASON_OFFSET && reason < SSL_AD_REASON_OFFSET + 256 ? "alert" : "cut";
  }

  void End() {
    if (ssl_) SSL_shutdown(ssl_.get());
  }

 private:
  UniqueFd fd_;
  SslPtr ssl_;
  uint64_t finished_at_ = 0;
};

SslCtxPtr MakeContext(const Options& options) {
  SslCtxPtr context(SSL_CTX_new(TLS_client_method()));
  SSL_CTX_set_min_proto_version(context.get(), options.tls12 ? TLS1_2_VERSION : TLS1_3_VERSION);
  SSL_CTX_set_ciphersuites(context.get(), "TLS_AES_128_GCM_SHA256");
  SSL_CTX_set1_groups_list(context.get(), options.tls12 ? "X25519:P-256" : "X25519");
  SSL_CTX_set_mode(context.get(), SSL_MODE_RELEASE_BUFFERS);
  return context;
}

// What the threads of one run found.
struct Result {
  std::mutex mutex;
  std::vector<double> times;  // microseconds
  std::map<std::string, uint64_t> counts;
};

void PrintResult(Result& result, double seconds) {
  std::sort(result.times.begin(), result.times.end());
  printf("{\"seconds\": %.6f, \"counts\": {", seconds);
  const char* between = "";
  for (const auto& [name, count] : result.counts) {
    printf("%s\"%s\": %llu", between, name.c_str(), static_cast<unsigned long long>(count));
    between = ", ";
  }
  printf("}, \"times\": [");
  between = "";
  // Prints all times if they are not too many; else evenly spread ones, the largest among them.
  const size_t step = std::max<size_t>(1, result.times.size() / 2000);
  for (size_t i = (result.times.size() + step - 1) % step; i < result.times.size(); i += step) {
    printf("%s%.2f", between, result.times[i]);
    between = ", ";
  }
  printf("]}\n");
  fflush(stdout);
}

void WaitForLine() {
  printf("ready\n");
  fflush(stdout);
  char c;
  while (read(0, &c, 1) == 1 && c != '\n') {
  }
}

void WaitForEnd() {
  char c;
  while (read(0, &c, 1) > 0) {
  }
}

double Microseconds(uint64_t from, uint64_t to) {
  return (static_cast<double>(to) - static_cast<double>(from)) / 1000;
}

class Load {
 public:
  explicit Load(Options options) : options_(std::move(options)), context_(MakeContext(options_)) {}

  int Run() {
    if (options_.kind == "idle") return Idle();
    if (options_.kind == "silent") return Silent();
    if (options_.kind == "handshake" || options_.kind == "handoff" || options_.kind == "exec") {
      return Connections();
    }
    return OneConnection();
  }

 private:
  // Makes one connection as `kind` says. Returns the time that is measured; `what` says how the
  // connection was.
  double Once(SSL_SESSION* session, uint64_t number, std::string& what) {
    const uint64_t began = NowNs();
    Client client(options_, context_.get(), session, number);
    char answer[32];
    what = client.resumed() ? "resumed" : "full";
    if (options_.kind == "exec") {
      client.ReadAll(answer, 1);
      const uint64_t first_byte = NowNs();
      what = client.Ending();
      return Microseconds(began, first_byte);
    }
    const bool handoff = options_.kind == "handoff";
    client.Write(Command(handoff ? Op::kTime : Op::kHello, 0));
    client.ReadAll(answer, handoff ? 20 : 1);
    const uint64_t now = NowNs();
    client.End();
    if (!handoff) return Microseconds(began, now);
    answer[20] = 0;
    return Microseconds(client.finished_at(), strtoull(answer, nullptr, 10));
  }

  // Gets a ticket to resume with. For servers that accept a ticket only once there is a new one
  // each time.
  SslSessionPtr Ticket() {
    if (options_.plain || !options_.resumed) return nullptr;
    Client client(options_, context_.get(), nullptr, 0);
    char answer;
    client.Write(Command(Op::kHello, 0));
    client.ReadAll(&answer, 1);
    SslSessionPtr session = client.Session();
    client.End();
    return session;
  }

  int Connections() {
    const SslSessionPtr ticket = Ticket();
    std::string what;
    (void)Once(ticket.get(), 0, what);
    WaitForLine();
    Result result;
    std::atomic<uint64_t> next = 0;
    const auto work = [&] {
      std::vector<double> times;
      std::map<std::string, uint64_t> counts;
      std::string kind;
      for (uint64_t i; (i = next++) < options_.count;) {
        times.push_back(Once(ticket.get(), i, kind));
        ++counts[kind];
      }
      const std::lock_guard lock(result.mutex);
      result.times.insert(result.times.end(), times.begin(), times.end());
      for (const auto& [name, count] : counts) result.counts[name] += count;
    };
    const uint64_t began = NowNs();
    std::vector<std::thread> threads;
    for (int i = 1; i < options_.threads; ++i) threads.emplace_back(work);
    work();
    for (std::thread& thread : threads) thread.join();
    PrintResult(result, Microseconds(began, NowNs()) / 1e6);
    WaitForEnd();
    return 0;
  }

  void Transfer(Client& client, uint64_t bytes) {
    std::vector<char> buffer(64 * 1024);
    const bool receive = options_.kind == "receive";
    const Op op = receive ? Op::kReceive : options_.kind == "send" ? Op::kSend : Op::kSendFile;
    client.Write(Command(op, bytes));
    while (bytes > 0) {
      const size_t part = std::min<uint64_t>(bytes, buffer.size());
      const size_t done = receive ? part : client.Read(buffer.data(), part);
      if (receive) client.Write({buffer.data(), part});
      if (done == 0) Die("the answer ends early");
      bytes -= done;
    }
    if (receive) client.ReadAll(buffer.data(), 1);
  }

  void RoundTrips(Client& client, uint64_t count, std::vector<double>& times) {
    std::vector<char> message(options_.size, 'x');
    for (uint64_t i = 0; i < count; ++i) {
      const uint64_t began = NowNs();
      client.Write({message.data(), message.size()});
      client.ReadAll(message.data(), message.size());
      times.push_back(Microseconds(began, NowNs()));
    }
  }

  int OneConnection() {
    Client client(options_, context_.get(), nullptr, 0);
    Result result;
    result.times.reserve(options_.count < 10'000'000 ? options_.count : 0);
    const bool roundtrip = options_.kind == "roundtrip";
    if (roundtrip) client.Write(Command(Op::kEcho, options_.size));
    if (roundtrip) {
      RoundTrips(client, 20, result.times);
    } else {
      Transfer(client, 1 << 20);
    }
    result.times.clear();
    WaitForLine();
    const uint64_t began = NowNs();
    if (roundtrip) {
      RoundTrips(client, options_.count, result.times);
    } else {
      Transfer(client, options_.count);
    }
    PrintResult(result, Microseconds(began, NowNs()) / 1e6);
    WaitForEnd();
    client.End();
    return 0;
  }

  int Idle() {
    std::vector<Client> clients;
    clients.reserve(options_.count);
    char answer;
    for (uint64_t i = 0; i < options_.count; ++i) {
      clients.emplace_back(options_, context_.get(), nullptr, i);
      clients.back().Write(Command(Op::kHello, 0));
      clients.back().ReadAll(&answer, 1);
    }
    WaitForLine();
    printf("{\"seconds\": 0, \"counts\": {}, \"times\": []}\n");
    fflush(stdout);
    WaitForEnd();
    return 0;
  }

  int Silent() {
    std::map<int, UniqueFd> open;
    uint64_t number = 0;
    uint64_t again = 0;
    const UniqueFd epoll(epoll_create1(EPOLL_CLOEXEC));
    const auto watch = [&](int fd) {
      epoll_event event{.events = EPOLLIN | EPOLLRDHUP, .data = {.fd = fd}};
      epoll_ctl(epoll.get(), EPOLL_CTL_ADD, fd, &event);
    };
    const auto open_one = [&] {
      UniqueFd fd = Connect(options_.port, number++);
      watch(fd.get());
      const int number_of_it = fd.get();
      open[number_of_it] = std::move(fd);
    };
    while (open.size() < options_.count) open_one();
    WaitForLine();
    watch(0);
    while (true) {
      epoll_event events[256];
      const int count = epoll_wait(epoll.get(), events, 256, -1);
      for (int i = 0; i < count; ++i) {
        if (events[i].data.fd == 0) {
          printf("{\"seconds\": 0, \"counts\": {\"again\": %llu}, \"times\": []}\n",
                 static_cast<unsigned long long>(again));
          return 0;
        }
        open.erase(events[i].data.fd);
        ++again;
        open_one();
      }
    }
  }

  const Options options_;
  const SslCtxPtr context_;
};

Options Parse(int argc, char** argv) {
  constexpr option kOptions[] = {{"count", required_argument, nullptr, 'c'},
                                 {"size", required_argument, nullptr, 's'},
                                 {"threads", required_argument, nullptr, 't'},
                                 {"plain", no_argument, nullptr, 'p'},
                                 {"resumed", no_argument, nullptr, 'r'},
                                 {"tls12", no_argument, nullptr, '2'},
                                 {}};
  Options options;
  for (int c; (c = getopt_long(argc, argv, "", kOptions, nullptr)) != -1;) {
    switch (c) {
      case 'c':
        options.count = strtoull(optarg, nullptr, 10);
        break;
      case 's':
        options.size = strtoull(optarg, nullptr, 10);
        break;
      case 't':
        options.threads = atoi(optarg);
        break;
      case 'p':
        options.plain = true;
        break;
      case 'r':
        options.resumed = true;
        break;
      case '2':
        options.tls12 = true;
        break;
      default:
        exit(2);
    }
  }
  if (argc - optind != 2) Die("usage: bench-load KIND PORT [OPTION]...");
  options.kind = argv[optind];
  options.port = static_cast<uint16_t>(atoi(argv[optind + 1]));
  return options;
}

int Main(int argc, char** argv) {
  signal(SIGPIPE, SIG_IGN);
  RaiseDescriptorLimit();
  return Load(Parse(argc, argv)).Run();
}

}  // namespace
}  // namespace tlsbroker::bench

int main(int argc, char** argv) { return tlsbroker::bench::Main(argc, argv); }
