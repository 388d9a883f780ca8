// SPDX-License-Identifier: Apache-2.0
// A TLS 1.3 client that changes its keys in the middle of a transfer, and has the other side change
// its own: sends bytes to a service that sends them back, compares, and counts the KeyUpdates that
// came. Usage: key-updates PORT MIB COUNT PER-SECOND; with 0 a second it sends all at once, before
// the transfer, faster than the other side can read them.

#include <arpa/inet.h>
#include <fcntl.h>
#include <openssl/ssl.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

namespace {

using Clock = std::chrono::steady_clock;

int received_updates = 0;

void OnMessage(int is_write, int, int type, const void* data, size_t size, SSL*, void*) {
  const auto* bytes = static_cast<const uint8_t*>(data);
  if (is_write == 0 && type == SSL3_RT_HANDSHAKE && size > 0 && bytes[0] == SSL3_MT_KEY_UPDATE)
    ++received_updates;
}

uint8_t ByteAt(uint64_t at) { return static_cast<uint8_t>((at * 2654435761U) >> 13); }

[[noreturn]] void Fail(const char* what, uint64_t at) {
  std::printf("%s at %llu\n", what, static_cast<unsigned long long>(at));
  std::exit(1);
}

bool WouldBlock(SSL* ssl, int result) {
  const int error = SSL_get_error(ssl, result);
  return error == SSL_ERROR_WANT_READ || error == SSL_ERROR_WANT_WRITE;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 5) return 2;
  const auto port = static_cast<uint16_t>(std::atoi(argv[1]));
  const uint64_t size = std::strtoull(argv[2], nullptr, 10) << 20;
  const int count = std::atoi(argv[3]);
  const int per_second = std::atoi(argv[4]);
  const auto pause = std::chrono::milliseconds(1000 / std::max(per_second, 1) + 10);

  signal(SIGPIPE, SIG_IGN);
  SSL_CTX* context = SSL_CTX_new(TLS_client_method());
  SSL_CTX_set_min_proto_version(context, TLS1_3_VERSION);
  SSL* ssl = SSL_new(context);
  const int fd = socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  if (connect(fd, reinterpret_cast<sockaddr*>(&address), sizeof(address)) != 0) return 2;
  SSL_set_fd(ssl, fd);
  SSL_set_mode(ssl, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
  SSL_set_msg_callback(ssl, OnMessage);
  if (SSL_connect(ssl) != 1) Fail("handshake", 0);
  int updates = 0;
  if (per_second == 0) {
    BIO* made = BIO_new(BIO_s_mem());
    SSL_set0_wbio(ssl, made);
    for (; updates < count; ++updates) {
      if (SSL_key_update(ssl, SSL_KEY_UPDATE_NOT_REQUESTED) != 1 || SSL_do_handshake(ssl) != 1)
        Fail("KeyUpdate", 0);
    }
    char* bytes = nullptr;
    const long all = BIO_get_mem_data(made, &bytes);
    for (long done = 0; done < all;) {
      const ssize_t n = write(fd, bytes + done, static_cast<size_t>(all - done));
      if (n < 0) Fail("KeyUpdates", static_cast<uint64_t>(done));
      done += n;
    }
    SSL_set0_wbio(ssl, BIO_new_socket(fd, BIO_NOCLOSE));
  }
  fcntl(fd, F_SETFL, O_NONBLOCK);

  std::vector<uint8_t> out(16384), in(65536);
  uint64_t sent = 0, received = 0;
  bool ended = false;
  Clock::time_point next = Clock::now() + pause;
  const auto step = size / static_cast<uint64_t>(count + 1);
  while (received < size) {
    // KeyUpdates are spread over the transfer, and no faster than the other side allows.
    const bool paused = updates < count && sent >= step * static_cast<uint64_t>(updates + 1);
    if (paused && Clock::now() >= next) {
      if (SSL_key_update(ssl, updates % 2 == 0 ? SSL_KEY_UPDATE_REQUESTED
                                               : SSL_KEY_UPDATE_NOT_REQUESTED) == 1) {
        ++updates;
        next = Clock::now() + pause;
      }
    }
    const uint64_t allowed = updates < count ? step * static_cast<uint64_t>(updates + 1) : size;
    bool moved = false;
    if (sent < allowed) {
      const size_t piece = std::min<uint64_t>(out.size(), allowed - sent);
      for (size_t i = 0; i < piece; ++i) out[i] = ByteAt(sent + i);
      size_t n = 0;
      const int result = SSL_write_ex(ssl, out.data(), piece, &n);
      if (result == 1) {
        sent += n;
        moved = true;
      } else if (!WouldBlock(ssl, result)) {
        Fail("write", sent);
      }
    }
    size_t n = 0;
    const int result = SSL_read_ex(ssl, in.data(), in.size(), &n);
    if (result == 1) {
      for (size_t i = 0; i < n; ++i) {
        if (in[i] != ByteAt(received + i)) Fail("a different byte", received + i);
      }
      received += n;
      moved = true;
    } else if (!WouldBlock(ssl, result)) {
      Fail("read", received);
    }
    if (moved) continue;
    pollfd entry{fd, static_cast<short>(sent < allowed ? POLLIN | POLLOUT : POLLIN), 0};
    poll(&entry, 1, 20);
  }
  while (!ended) {
    const int result = SSL_shutdown(ssl);
    if (result == 1) break;
    size_t n = 0;
    const int read = SSL_read_ex(ssl, in.data(), in.size(), &n);
    if (read != 1 && SSL_get_error(ssl, read) == SSL_ERROR_ZERO_RETURN) break;
    if (read != 1 && !WouldBlock(ssl, read)) Fail("no clean end", received);
    pollfd entry{fd, POLLIN, 0};
    poll(&entry, 1, 100);
  }
  std::printf("%d sent, %d received, %llu MiB\n", updates, received_updates,
              static_cast<unsigned long long>(received >> 20));
  return 0;
}
