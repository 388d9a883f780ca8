// SPDX-License-Identifier: Apache-2.0
#include "protocol/ring.h"

#include <fcntl.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

// Newer than the headers of Debian 12 (linux/memfd.h since 6.3).
#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 0x0008U
#endif

namespace tlsbroker::ring {
namespace {

constexpr uint32_t kHeader = sizeof(uint32_t);
constexpr int kSeals = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL;

// Kernels before 6.3 do not know MFD_NOEXEC_SEAL; later ones can require it (vm.memfd_noexec).
int MakeMemory() {
  constexpr unsigned kFlags = MFD_CLOEXEC | MFD_ALLOW_SEALING;
  const int fd = memfd_create("tlsbroker-reports", kFlags | MFD_NOEXEC_SEAL);
  return fd < 0 && errno == EINVAL ? memfd_create("tlsbroker-reports", kFlags) : fd;
}

}  // namespace

Ring Make() {
  UniqueFd memory(MakeMemory());
  if (!memory || ftruncate(memory.get(), sizeof(Memory)) != 0 ||
      fcntl(memory.get(), F_ADD_SEALS, kSeals) != 0)
    return {};
  UniqueFd bell(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!bell) return {};
  return {std::move(memory), std::move(bell)};
}

bool IsMemory(int fd) {
  struct stat status;
  const int seals = fcntl(fd, F_GET_SEALS);
  return seals >= 0 && (seals & kSeals) == kSeals && fstat(fd, &status) == 0 &&
         status.st_size == sizeof(Memory);
}

// An eventfd takes eight bytes and no fewer; nothing else that can be written to does that.
bool IsBell(int fd) {
  const uint32_t half = 0;
  return write(fd, &half, sizeof(half)) < 0 && errno == EINVAL &&
         (fcntl(fd, F_GETFL) & (O_ACCMODE | O_NONBLOCK)) == (O_RDWR | O_NONBLOCK);
}

Mapping::Mapping(int memory) {
  void* const mapped = mmap(nullptr, sizeof(Memory), PROT_READ | PROT_WRITE, MAP_SHARED, memory, 0);
  if (mapped != MAP_FAILED) memory_ = static_cast<Memory*>(mapped);
}

Mapping::Mapping(Mapping&& other) noexcept : memory_(std::exchange(other.memory_, nullptr)) {}

Mapping& Mapping::operator=(Mapping&& other) noexcept {
  std::swap(memory_, other.memory_);
  return *this;
}

Mapping::~Mapping() {
  if (memory_ != nullptr) munmap(memory_, sizeof(Memory));
}

Result Writer::Send(std::span<const uint8_t> message) {
  if (message.empty() || message.size() > kMaxMessage) {
    errno = EMSGSIZE;
    return Result::kError;
  }
  if (!mapping_) return Result::kClosed;
  const uint32_t used = written_ - mapping_->read.load(std::memory_order_acquire);
  if (kSize - used < kHeader + message.size()) return Result::kWouldBlock;
  const auto length = static_cast<uint32_t>(message.size());
  Put({reinterpret_cast<const uint8_t*>(&length), kHeader});
  Put(message);
  mapping_->written.store(written_, std::memory_order_release);
  const uint64_t one = 1;
  (void)!write(bell_, &one, sizeof(one));  // EAGAIN: it has been rung more than often enough
  return Result::kOk;
}

void Writer::Put(std::span<const uint8_t> bytes) {
  const size_t at = written_ % kSize;
  const size_t first = std::min(bytes.size(), kSize - at);
  std::memcpy(mapping_->bytes + at, bytes.data(), first);
  std::memcpy(mapping_->bytes, bytes.data() + first, bytes.size() - first);
  written_ += static_cast<uint32_t>(bytes.size());
}

// The writer can change all of the memory at any time. So how much is there, and the length of a
// message, are read once and bounded before they are used. Where to read is known in this process
// alone.
Result Reader::Next() {
  const uint32_t used = mapping_->written.load(std::memory_order_acquire) - read_;
  if (used == 0) return Result::kWouldBlock;
  if (used > kSize || used < kHeader) return Result::kMalformed;
  uint32_t length;
  Take({reinterpret_cast<uint8_t*>(&length), kHeader});
  if (length == 0 || length > kMaxMessage || length > used - kHeader) return Result::kMalformed;
  message_.resize(length);
  Take(message_);
  mapping_->read.store(read_, std::memory_order_release);
  return Result::kOk;
}

void Reader::Take(std::span<uint8_t> bytes) {
  const size_t at = read_ % kSize;
  const size_t first = std::min(bytes.size(), kSize - at);
  std::memcpy(bytes.data(), mapping_->bytes + at, first);
  std::memcpy(bytes.data() + first, mapping_->bytes, bytes.size() - first);
  read_ += static_cast<uint32_t>(bytes.size());
}

// Eventfds know RWF_NOWAIT since Linux 5.8.
bool Silence(int bell) {
  uint64_t count;
  const iovec buffer{&count, sizeof(count)};
  return preadv2(bell, &buffer, 1, /*offset=*/-1, RWF_NOWAIT) == sizeof(count);
}

}  // namespace tlsbroker::ring
