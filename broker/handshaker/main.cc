// SPDX-License-Identifier: Apache-2.0
// tlsbroker-handshaker: accepts TCP connections, does their TLS handshakes with private keys that
// only the keyholder has, gives the traffic keys to the kernel and the connections to workers.
// Started by the supervisor with the descriptors of broker/support/descriptors.h; never by hand,
// except with --probe.

#include <malloc.h>
#include <openssl/crypto.h>
#include <signal.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <string_view>

#include "broker/handshaker/control.h"
#include "broker/handshaker/probe_main.h"
#include "broker/handshaker/server.h"
#include "broker/support/descriptors.h"
#include "broker/support/log.h"
#include "broker/support/report.h"
#include "broker/support/secret_bytes.h"

namespace tlsbroker {
namespace {

// OpenSSL frees an SSL object without wiping the traffic secrets in it. With these functions
// everything that OpenSSL frees is wiped.
void* Allocate(size_t size, const char*, int) { return std::malloc(size); }

void WipeAndFree(void* block, const char*, int) {
  if (block == nullptr) return;
  Wipe(block, malloc_usable_size(block));
  std::free(block);
}

void* Reallocate(void* block, size_t size, const char* file, int line) {
  if (size == 0) {
    WipeAndFree(block, file, line);
    return nullptr;
  }
  void* moved = std::malloc(size);
  if (moved == nullptr || block == nullptr) return moved;
  std::memcpy(moved, block, std::min(size, malloc_usable_size(block)));
  WipeAndFree(block, file, line);
  return moved;
}

void Setup() {
  log::InitBehindLogger();
  CRYPTO_set_mem_functions(Allocate, Reallocate, WipeAndFree);
  // This machine's OpenSSL configuration files must not decide what is offered here.
  OPENSSL_init_crypto(OPENSSL_INIT_NO_LOAD_CONFIG, nullptr);
  signal(SIGPIPE, SIG_IGN);
  // Ctrl-C in a terminal goes to all processes of the broker, but the supervisor decides in which
  // order they end.
  signal(SIGINT, SIG_IGN);
  signal(SIGHUP, SIG_IGN);
}

int Fail(const absl::Status& status) {
  log::Error(std::string(status.message()));
  (void)ReportSurely(
      supervision::Failed{supervision::Failed::Subject::kOther, 0, std::string(status.message())});
  return EXIT_FAILURE;
}

int Main() {
  if (!TakeInitialDescriptors()) {
    log::Error("tlsbroker-handshaker is started by tlsbrokerd(8); by hand only with --probe");
    return 2;
  }
  UniqueFd control(kControlDescriptor);
  auto snapshot = ReceiveSnapshot(control.get());
  if (!snapshot.ok()) return Fail(snapshot.status());
  auto server = Server::Create(std::move(snapshot).value());
  if (!server.ok()) return Fail(server.status());
  (*server)->Run(std::move(control));
  return EXIT_SUCCESS;
}

}  // namespace
}  // namespace tlsbroker

// What is thrown here ends the process. NOLINTNEXTLINE(bugprone-exception-escape)
int main(int argc, char** argv) {
  tlsbroker::Setup();
  if (argc == 2 && std::string_view(argv[1]) == "--probe") return tlsbroker::ProbeMain();
  if (argc != 1) {
    tlsbroker::log::Error("usage: started by tlsbrokerd; by hand only with --probe");
    return 2;
  }
  return tlsbroker::Main();
}
