// SPDX-License-Identifier: Apache-2.0
// A worker for tests that uses libtlsbroker: it sends back what it gets, with a thread for each
// connection, and logs how reading ended. With an argument N it changes its own keys every N MiB.

#include <signal.h>

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
  const uint64_t update_after = argc > 1 ? std::stoull(argv[1]) << 20 : 0;
  signal(SIGPIPE, SIG_IGN);
  tlsbroker::Queue queue;
  if (tlsbroker::Queue::FromEnvironment(nullptr, queue) < 0) return 1;
  for (;;) {
    tlsbroker::Connection connection;
    const int error = queue.Accept(connection);
    if (error == TLSBROKER_E_GONE) return 0;
    if (error == 0) std::thread(Serve, std::move(connection), update_after).detach();
  }
}
