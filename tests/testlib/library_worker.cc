// SPDX-License-Identifier: Apache-2.0
// A worker for tests that uses libtlsbroker: it sends back what it gets, with a thread for each
// connection, and logs how reading ended. With an argument N it changes its own keys every N MiB;
// with "count" it sends nothing back, and logs how much it got, with the Adler-32 (RFC 1950).

#include <signal.h>

#include <cinttypes>
#include <cstdio>
#include <string>
#include <thread>
#include <vector>

#include "tlsbroker/tlsbroker.hpp"

namespace {

ssize_t WriteAll(tlsbroker::Connection& connection, std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t n = connection.Write(bytes);
    if (n < 0) return n;
    bytes.remove_prefix(static_cast<size_t>(n));
  }
  return 0;
}

void Count(tlsbroker::Connection connection) {
  uint64_t size = 0, low = 1, high = 0;
  std::vector<unsigned char> buffer(65536);
  ssize_t n;
  while ((n = connection.Read(buffer.data(), buffer.size())) > 0) {
    size += static_cast<uint64_t>(n);
    for (auto byte = buffer.begin(); byte != buffer.begin() + n; ++byte) {
      low += *byte;
      high += low;
    }
    low %= 65521;  // no sooner: 64 bits are enough for so many bytes
    high %= 65521;
  }
  std::fprintf(stderr, "upload %s %" PRIu64 " %" PRIu64 " from %s\n", n == 0 ? "end" : "cut", size,
               high << 16 | low, connection.peer().data());
  n == 0 ? (void)connection.Close() : connection.Abort();
}

void Serve(tlsbroker::Connection connection, uint64_t update_after) {
  uint64_t since = 0;
  std::vector<char> buffer(65536);
  ssize_t n;
  while ((n = connection.Read(buffer.data(), buffer.size())) > 0) {
    n = WriteAll(connection, {buffer.data(), static_cast<size_t>(n)});
    if (n < 0) break;
    since += 65536;
    if (update_after == 0 || since < update_after) continue;
    since = 0;
    n = connection.UpdateKeys();
    if (n < 0) break;
  }
  std::fprintf(stderr, "library: ended mode=%s result=%zd alert=%d text=\"%s\"\n",
               connection.mode_name().data(), n, connection.alert(),
               tlsbroker::ResultText(n).data());
  n == 0 ? (void)connection.Close() : connection.Abort();
}

}  // namespace

int main(int argc, char** argv) {
  const bool counts = argc > 1 && argv[1] == std::string_view("count");
  const uint64_t update_after = argc > 1 && !counts ? std::stoull(argv[1]) << 20 : 0;
  signal(SIGPIPE, SIG_IGN);
  tlsbroker::Queue queue;
  if (tlsbroker::Queue::FromEnvironment(nullptr, queue) < 0) return 1;
  for (;;) {
    tlsbroker::Connection connection;
    const int error = queue.Accept(connection);
    if (error == TLSBROKER_E_GONE) return 0;
    if (error != 0) continue;
    counts ? std::thread(Count, std::move(connection)).detach()
           : std::thread(Serve, std::move(connection), update_after).detach();
  }
}
