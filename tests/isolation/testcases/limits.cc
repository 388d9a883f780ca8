// Attempts to take more of the machine than the limits give.

#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include "tests/isolation/testcases/attacks.h"

namespace tlsbroker::attacks {
namespace {

// So many bytes.
int TakeMemory(const Arguments& arguments) {
  void* memory = mmap(nullptr, Register(arguments.at(0)), PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  return memory == MAP_FAILED ? errno : 0;
}

// So many.
int TakeDescriptors(const Arguments& arguments) {
  for (uint64_t i = 0; i < Register(arguments.at(0)); ++i) {
    if (dup(kConnectionFd) < 0) return errno;
  }
  return 0;
}

int Compute(const Arguments&) {
  for (volatile uint64_t i = 0;; i = i + 1) {
  }
}

// The resource, and the limit that it would rather have.
int RaiseLimit(const Arguments& arguments) {
  const rlimit limit = {Register(arguments.at(1)), Register(arguments.at(1))};
  return ErrorOf(
      setrlimit(static_cast<__rlimit_resource_t>(Register(arguments.at(0))), &limit));
}


constexpr Attack kAttacks[] = {
    {"take-memory", TakeMemory}, {"take-descriptors", TakeDescriptors},
    {"compute", Compute},        {"raise-limit", RaiseLimit},
