// SPDX-License-Identifier: Apache-2.0
// One message after another through memory that two processes share: for reports to a process that
// must never wait, whatever the writer does. Memory carries no descriptors, so nothing that arrives
// can make a close(2) wait, and it has no lock. A pipe has one, which whoever can splice(2) into
// the pipe can hold as long as he likes, and then its reader waits in read(2) and close(2) even
// with O_NONBLOCK; and a process that may send descriptors to others cannot be kept from sending
// them the end of its pipe.
//
// The bell is an eventfd(2), which is rung after each message. Others may get it, too: they can
// ring it, and change its file status flags, which all copies share, so Silence() asks in the call
// itself not to wait. The writer closes the descriptor of the memory before it reads a byte of
// anybody else's. That the writer has ended is seen by its pidfd.
//
// Runs in every process of the broker; what comes in was written by the other process and is handed
// on undecoded.

#ifndef TLSBROKER_PROTOCOL_RING_H_
#define TLSBROKER_PROTOCOL_RING_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "protocol/channel.h"
#include "protocol/unique_fd.h"

namespace tlsbroker::ring {

using channel::Result;

// The longest message, in bytes.
inline constexpr size_t kMaxMessage = 4092;
// Room for all messages that wait, with 4 bytes more for each.
inline constexpr uint32_t kSize = 32 * 1024;

struct Memory {
  // Bytes since the beginning; each is stored by one of the two processes alone.
  std::atomic<uint32_t> written;
  std::atomic<uint32_t> read;
  // What the writer is doing that may never end, for the reader to look at; 0: nothing.
  std::atomic<uint64_t> doing;
  uint8_t bytes[kSize];
};
static_assert(std::atomic<uint64_t>::is_always_lock_free && (kSize & (kSize - 1)) == 0);

struct Ring {
  UniqueFd memory;  // a memfd that keeps its size (F_ADD_SEALS in fcntl(2))
  UniqueFd bell;
};

// Both are close-on-exec. Invalid descriptors and errno on failure.
Ring Make();

bool IsMemory(int fd);
bool IsBell(int fd);

// Memory that is mapped as long as this lives.
class Mapping {
 public:
  Mapping() = default;
  // On failure it is false and errno is set. The descriptor can be closed afterwards.
  explicit Mapping(int memory);
  Mapping(Mapping&& other) noexcept;
  Mapping& operator=(Mapping&& other) noexcept;
  ~Mapping();

  explicit operator bool() const { return memory_ != nullptr; }
  Memory* operator->() const { return memory_; }

 private:
  Memory* memory_ = nullptr;
};

class Writer {
 public:
  Writer() = default;
  // `bell` is borrowed.
  Writer(Mapping mapping, int bell)
      : mapping_(std::move(mapping)), bell_(bell), written_(mapping_->written) {}

  // A whole message of 1 to kMaxMessage bytes, or nothing: kWouldBlock when there is no room for
  // it. kClosed without memory. Does not block.
  Result Send(std::span<const uint8_t> message);

  // Does nothing while there is no ring.
  void SetDoing(uint64_t what) {
    if (mapping_) mapping_->doing.store(what, std::memory_order_relaxed);
  }

 private:
  void Put(std::span<const uint8_t> bytes);

  Mapping mapping_;
  int bell_ = -1;
  uint32_t written_ = 0;
};

class Reader {
 public:
  Reader() = default;
  // To be made while nobody else has the memory.
  explicit Reader(Mapping mapping) : mapping_(std::move(mapping)), read_(mapping_->read) {}

  // The next message is in message() until the next call. kWouldBlock: none is there; the bell
  // rings for the next one. kMalformed: what no Writer writes; the ring is of no use any more. Does
  // not block.
  Result Next();
  std::span<const uint8_t> message() const { return message_; }

  // What the writer said last. It may be anything.
  uint64_t doing() const { return mapping_->doing.load(std::memory_order_relaxed); }

 private:
  void Take(std::span<uint8_t> bytes);

  Mapping mapping_;
  uint32_t read_ = 0;  // kept here, since the writer can change what the memory says
  std::vector<uint8_t> message_;
};

// Resets the bell. To be called before the messages are looked at, since the bell is rung again for
// those that come later. False if it had not been rung. Does not block.
bool Silence(int bell);

}  // namespace tlsbroker::ring

#endif  // TLSBROKER_PROTOCOL_RING_H_
