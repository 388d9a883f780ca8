// SPDX-License-Identifier: Apache-2.0
// A worker for tests that uses libtlsbroker and does what the programs of record_cases.py do: it
// reads each connection to the end, counts, and logs what it saw. A client whose first byte is 'A'
// is answered after its end, one that begins with 'F' before it, and the worker ends its direction
// then. The argument is the size of the answer.

#include <signal.h>

#include <cstdio>
#include <string>
#include <thread>
#include <vector>

#include "tlsbroker/tlsbroker.hpp"

namespace {

int WriteAll(tlsbroker::Connection& connection, std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t n = connection.Write(bytes);
    if (n < 0) return static_cast<int>(n);
    bytes.remove_prefix(static_cast<size_t>(n));
  }
  return 0;
}

// Whether the answer was taken.
bool Answer(tlsbroker::Connection& connection, const std::string& answer) {
  const int error = WriteAll(connection, answer);
  if (error < 0) std::fprintf(stderr, "not answered result=%d\n", error);
  return error == 0;
}

void Serve(tlsbroker::Connection connection, const std::string& answer) {
  std::vector<char> buffer(65536);
  size_t size = 0;
  char first = 0;
  ssize_t n;
  while ((n = connection.Read(buffer.data(), buffer.size())) > 0) {
    if (size == 0) {
      first = buffer[0];
      if (first == 'F' && Answer(connection, answer)) connection.EndWrite();
    }
    size += static_cast<size_t>(n);
  }
  std::fprintf(stderr, "saw %s after %zu result=%zd\n", n == 0 ? "end" : "cut", size, n);
  if (n == 0 && first == 'A' && !Answer(connection, answer)) return;
  connection.Close();
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) return 2;
  const std::string answer(std::stoul(argv[1]), 'a');
  signal(SIGPIPE, SIG_IGN);
  tlsbroker::Queue queue;
  if (tlsbroker::Queue::FromEnvironment(nullptr, queue) < 0) return 1;
  for (;;) {
    tlsbroker::Connection connection;
    const int error = queue.Accept(connection);
    if (error == TLSBROKER_E_GONE) return 0;
    if (error == 0) std::thread(Serve, std::move(connection), answer).detach();
  }
}
