// SPDX-License-Identifier: Apache-2.0
// Ticket keys on their way to a handshaker leave nothing behind in freed memory: a process that is
// forked from the supervisor would have it.

#include <gtest/gtest.h>
#include <malloc.h>
#include <string.h>

#include <array>
#include <asio/io_context.hpp>
#include <cstdlib>
#include <utility>
#include <vector>

#include "broker/supervisor/control.h"
#include "broker/supervisor/ticket_keys.h"
#include "protocol/channel.h"
#include "protocol/message.h"

namespace {

constexpr std::array<unsigned char, 32> kKey = {0xa5, 0x5a, 0xc3, 0x3c, 0x96, 0x69, 0x81, 0x18,
                                                0xa5, 0x5a, 0xc3, 0x3c, 0x96, 0x69, 0x81, 0x18};
int freed_keys = 0;

void Free(void* block) noexcept {
  if (block != nullptr && memmem(block, malloc_usable_size(block), kKey.data(), 16) != nullptr) {
    ++freed_keys;
  }
  std::free(block);
}

}  // namespace

void* operator new(size_t size) {
  void* block = std::malloc(size == 0 ? 1 : size);
  if (block == nullptr) std::abort();
  return block;
}
void operator delete(void* block) noexcept { Free(block); }
void operator delete(void* block, size_t) noexcept { Free(block); }

namespace tlsbroker::supervisor {
namespace {

TicketKeysMessage Keys() {
  supervision::TicketKeys keys;
  keys.keys.resize(3);
  for (supervision::TicketKey& key : keys.keys) key.cipher = kKey;
  return TicketKeysMessage(std::move(keys));
}

class WipingTest : public testing::Test {
 protected:
  WipingTest() { freed_keys = 0; }
  asio::io_context io_;
  ControlChannel channel_{io_.get_executor()};
};

TEST_F(WipingTest, ThisTestWouldSeeIt) {
  { const std::vector<unsigned char> copy(kKey.begin(), kKey.end()); }
  EXPECT_EQ(freed_keys, 1);
}

TEST_F(WipingTest, WhatIsSent) {
  auto ends = channel::MakePair();
  channel_.Use(std::move(ends.first));
  EXPECT_TRUE(channel_.SendNow(supervision::EncodeOne(Keys().message())));
  channel_.Close();
  EXPECT_EQ(freed_keys, 0);
}

TEST_F(WipingTest, WhatNobodyHears) {
  EXPECT_FALSE(channel_.SendNow(supervision::EncodeOne(Keys().message())));
  EXPECT_EQ(freed_keys, 0) << "the process had ended";
}

TEST_F(WipingTest, WhatIsReplaced) {
  supervision::Encoded encoded = supervision::EncodeOne(Keys().message());
  encoded = supervision::EncodeOne(Keys().message());
  supervision::Encoded moved = std::move(encoded);
  moved = supervision::Encoded();
  EXPECT_EQ(freed_keys, 0);
}

}  // namespace
}  // namespace tlsbroker::supervisor
