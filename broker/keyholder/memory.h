// SPDX-License-Identifier: Apache-2.0
// Keeps key material out of swap and core dumps. Runs in the keyholder.

#ifndef TLSBROKER_BROKER_KEYHOLDER_MEMORY_H_
#define TLSBROKER_BROKER_KEYHOLDER_MEMORY_H_

#include <cstddef>
#include <cstdint>
#include <span>

#include "absl/status/status.h"

namespace tlsbroker {

// Makes OpenSSL's secure heap, with room for this many keys, and locks it and, where the limits
// allow it, all other memory. Logs one warning for what could not be locked.
absl::Status LockMemory(size_t keys);

// Overwrites what calls have left on the stack below their caller's frame, such as OpenSSL's copies
// of a passphrase.
void WipeStack();

// A fixed piece of memory for the bytes of a key file: never swapped where locking is allowed,
// never dumped, gone in a forked child, wiped at the end.
class KeyFileBuffer {
 public:
  explicit KeyFileBuffer(size_t capacity);
  KeyFileBuffer(const KeyFileBuffer&) = delete;
  KeyFileBuffer& operator=(const KeyFileBuffer&) = delete;
  ~KeyFileBuffer();

  // Empty if there was no memory.
  std::span<uint8_t> bytes() const { return bytes_; }

 private:
  std::span<uint8_t> bytes_;
};

}  // namespace tlsbroker

#endif  // TLSBROKER_BROKER_KEYHOLDER_MEMORY_H_
