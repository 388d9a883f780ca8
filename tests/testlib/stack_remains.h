// SPDX-License-Identifier: Apache-2.0
// Shows what a call leaves on its stack, so that tests can look for keys there. For tests only.

#ifndef TLSBROKER_TESTS_TESTLIB_STACK_REMAINS_H_
#define TLSBROKER_TESTS_TESTLIB_STACK_REMAINS_H_

#include <gtest/gtest.h>
#include <pthread.h>
#include <sys/mman.h>

#include <functional>
#include <string>
#include <vector>

namespace tlsbroker {

// Runs `work` in a thread on a stack of its own and returns all of that stack.
inline std::string StackAfter(const std::function<void()>& work) {
  constexpr size_t kSize = 1 << 20;
  void* stack = mmap(nullptr, kSize, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  pthread_attr_setstack(&attributes, stack, kSize);
  const auto run = [](void* function) -> void* {
    (*static_cast<const std::function<void()>*>(function))();
    return nullptr;
  };
  pthread_t thread;
  EXPECT_EQ(pthread_create(&thread, &attributes, run, const_cast<std::function<void()>*>(&work)),
            0);
  pthread_join(thread, nullptr);
  pthread_attr_destroy(&attributes);
  std::string left(static_cast<const char*>(stack), kSize);
  munmap(stack, kSize);
  return left;
}

// Whether the memory has eight consecutive bytes of any of the keys.
inline bool HoldsPartOf(const std::string& memory, const std::vector<std::string>& keys) {
  for (const std::string& key : keys) {
    for (size_t at = 0; at + 8 <= key.size(); at += 8) {
      if (memory.find(key.substr(at, 8)) != std::string::npos) return true;
    }
  }
  return false;
}

}  // namespace tlsbroker

#endif  // TLSBROKER_TESTS_TESTLIB_STACK_REMAINS_H_
