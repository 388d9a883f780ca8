// SPDX-License-Identifier: Apache-2.0
// SecretBytes holds key material: move-only, wiped when it is destroyed, not printable. Every
// traffic secret, ticket key and sealing key of the broker lives in one. Runs in handshakers and
// supervisor.

#ifndef TLSBROKER_BROKER_SUPPORT_SECRET_BYTES_H_
#define TLSBROKER_BROKER_SUPPORT_SECRET_BYTES_H_

#include <string.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

namespace tlsbroker {

// Wipes memory in a way that the compiler may not remove.
inline void Wipe(void* data, size_t size) {
  if (size == 0) return;  // an empty vector's data() may be null
  // As explicit_bzero(3), but inline: a handshake frees thousands of small blocks.
  memset(data, 0, size);
  asm volatile("" : : "r"(data) : "memory");
}

// Inline storage: an object that is moved from is wiped, and nothing is ever left on the heap.
class SecretBytes {
 public:
  static constexpr size_t kCapacity = 64;

  SecretBytes() = default;
  explicit SecretBytes(std::span<const uint8_t> bytes) { Assign(bytes); }
  SecretBytes(SecretBytes&& other) noexcept { *this = static_cast<SecretBytes&&>(other); }
  SecretBytes& operator=(SecretBytes&& other) noexcept {
    if (this != &other) {
      Assign(other.bytes());
      other.Clear();
    }
    return *this;
  }
  SecretBytes(const SecretBytes&) = delete;
  SecretBytes& operator=(const SecretBytes&) = delete;
  ~SecretBytes() { Clear(); }

  // Makes room for `size` (<= kCapacity) bytes and returns it to be filled; empty if it is too
  // much.
  std::span<uint8_t> Resize(size_t size) {
    Clear();
    if (size > kCapacity) return {};
    size_ = size;
    return {data_.data(), size_};
  }

  std::span<const uint8_t> bytes() const { return {data_.data(), size_}; }
  size_t size() const { return size_; }
  bool empty() const { return size_ == 0; }

  void Clear() {
    Wipe(data_.data(), data_.size());
    size_ = 0;
  }

 private:
  void Assign(std::span<const uint8_t> bytes) {
    auto room = Resize(bytes.size());
    for (size_t i = 0; i < room.size(); ++i) room[i] = bytes[i];
  }

  std::array<uint8_t, kCapacity> data_{};
  size_t size_ = 0;
};

}  // namespace tlsbroker

#endif  // TLSBROKER_BROKER_SUPPORT_SECRET_BYTES_H_
