// SPDX-License-Identifier: Apache-2.0
#include "broker/keyholder/memory.h"

#include <openssl/crypto.h>
#include <sys/mman.h>
#include <sys/resource.h>

#include <array>
#include <bit>

#include "absl/strings/str_cat.h"
#include "broker/support/log.h"
#include "broker/support/secret_bytes.h"

namespace tlsbroker {
namespace {

// An RSA-16384 key has less than 10 KiB of private numbers; the rest is for OpenSSL's temporaries.
constexpr size_t kHeapPerKey = 16 * 1024;
constexpr size_t kHeapBase = 256 * 1024;
constexpr size_t kHeapMinimumBlock = 32;

// Root may lift the limit, and does so before the process gives up root's rights; other users get
// as much as they may have.
rlim_t RaiseLockLimit() {
  rlimit limit{RLIM_INFINITY, RLIM_INFINITY};
  if (setrlimit(RLIMIT_MEMLOCK, &limit) == 0) return RLIM_INFINITY;
  if (getrlimit(RLIMIT_MEMLOCK, &limit) != 0) return 0;
  limit.rlim_cur = limit.rlim_max;
  (void)setrlimit(RLIMIT_MEMLOCK, &limit);
  return limit.rlim_cur;
}

}  // namespace

absl::Status LockMemory(size_t keys) {
  const rlim_t limit = RaiseLockLimit();
  const size_t heap = std::bit_ceil(kHeapBase + keys * kHeapPerKey);
  // 1: made and locked, 2: made, but its memory could not be protected in full.
  const int made = CRYPTO_secure_malloc_init(heap, kHeapMinimumBlock);
  if (made == 0) return absl::ResourceExhaustedError("no memory for the heap of the keys");
  // With a finite limit, MCL_FUTURE would make allocations fail once the limit is reached.
  if (limit == RLIM_INFINITY && mlockall(MCL_CURRENT | MCL_FUTURE) == 0) return absl::OkStatus();
  const char* what = made == 1 ? "only the heap of the private keys is locked in memory"
                               : "private keys are not locked in memory and may be swapped out";
  log::Warning(absl::StrCat(what, ": set RLIMIT_MEMLOCK (LimitMEMLOCK=) to infinity"));
  return absl::OkStatus();
}

[[gnu::noinline]] void WipeStack() {
  std::array<uint8_t, 128 * 1024> left;
  Wipe(left.data(), left.size());
}

KeyFileBuffer::KeyFileBuffer(size_t capacity) {
  void* memory =
      mmap(nullptr, capacity, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) return;
  bytes_ = {static_cast<uint8_t*>(memory), capacity};
  // Best effort: LockMemory has said what cannot be locked.
  (void)mlock(memory, capacity);
  (void)madvise(memory, capacity, MADV_DONTDUMP);
  (void)madvise(memory, capacity, MADV_WIPEONFORK);
}

KeyFileBuffer::~KeyFileBuffer() {
  if (bytes_.empty()) return;
  Wipe(bytes_.data(), bytes_.size());
  (void)munmap(bytes_.data(), bytes_.size());
}

}  // namespace tlsbroker
