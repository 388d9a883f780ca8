// SPDX-License-Identifier: Apache-2.0
// What the C library does for libtlsbroker: memory, locks, time. Each case is provoked, since it
// depends on what the program did before.

#include <malloc.h>
#include <signal.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <chrono>
#include <fstream>
#include <thread>

#include "client-lib/filter.h"
#include "tests/unit/client_operations.h"
#include "tests/unit/client_worker.h"

namespace tlsbroker {
namespace {

using WorkerPtr = std::shared_ptr<ClientWorker>;

WorkerPtr Connected() {
  const auto worker = std::make_shared<ClientWorker>();
  worker->TakeQueue();
  worker->OfferStream();
  worker->Take();
  return worker;
}

Act TakeConnection() {
  const auto worker = std::make_shared<ClientWorker>();
  worker->TakeQueue();
  worker->OfferStream();
  return [=] { return worker->queue.Accept(worker->connection) == 0; };
}

// The compiler may leave out an allocation that nobody uses.
void* volatile g_block;
void* Allocate(size_t size) {
  g_block = ::operator new(size);
  return g_block;
}

// Leaves a small piece of the main heap and fills all of its gaps.
void UseUpHeap() {
  mallopt(M_TOP_PAD, 0);  // from now on the heap grows by no more than it must
  const void* before = sbrk(0);
  for (int grown = 0; grown < 2;) {
    (void)Allocate(handoff::kMaxMessage);
    if (sbrk(0) == before) continue;
    before = sbrk(0);
    ++grown;
  }
  malloc_trim(0);
}

// Makes as many heaps of threads as glibc makes before it counts the processors.
void UseManyHeaps() {
  for (int i = 0; i < 8; ++i) {
    std::atomic<bool> done = false;
    std::thread([&] {
      (void)Allocate(100);
      done = true;
      for (;;) pause();
    }).detach();
    while (!done) std::this_thread::yield();
  }
}

// Refuses files, as Landlock does to a worker whose file system is little more than its program.
void RefuseFiles() {
  const client::Filter filter(seccomp_init(SCMP_ACT_ALLOW), seccomp_release);
  Require(seccomp_rule_add(filter.get(), SCMP_ACT_ERRNO(EACCES), SCMP_SYS(openat), 0) == 0 &&
              seccomp_load(filter.get()) == 0,
          "a filter for files");
}

// The letter of proc(5) for the state of a task; "S" for waiting.
char StateOf(const std::string& task) {
  std::ifstream file("/proc/" + task + "/stat");
  const std::string text((std::istreambuf_iterator<char>(file)), {});
  const size_t end = text.rfind(')');
  return end == std::string::npos || end + 2 >= text.size() ? '?' : text[end + 2];
}

void AwaitState(const std::string& task, char state) {
  while (StateOf(task) != state) usleep(1000);
}

void Drain(const WorkerPtr& worker) {
  std::array<char, 65'536> nowhere;
  while (recv(worker->peer.get(), nowhere.data(), nowhere.size(), MSG_DONTWAIT) > 0) {
  }
}

// One thread writes and has no room; a second one wants to end the stream, and waits for the first.
Act WaitForLock() {
  const WorkerPtr worker = Connected();
  worker->Fill();
  worker->connection.SetNonblocking(false);
  static std::atomic<bool> begun = false;
  const std::string self = std::to_string(getpid()) + "/task/" + std::to_string(gettid());
  std::atomic<pid_t> writer = 0;
  std::thread([&writer, worker] {
    writer = gettid();
    (void)worker->connection.Write("more");
    for (;;) pause();
  }).detach();
  while (writer == 0) std::this_thread::yield();
  AwaitState(std::to_string(getpid()) + "/task/" + std::to_string(writer), 'S');
  std::thread([self, worker] {
    while (!begun) std::this_thread::yield();
    AwaitState(self, 'S');
    for (;;) {
      Drain(worker);
      usleep(1000);
    }
  }).detach();
  return [worker] {
    begun = true;
    return worker->connection.EndWrite() == 0;
  };
}

// SIGSTOP and SIGCONT come while the worker waits in poll(2), which the kernel then continues by
// another system call (restart_syscall).
Act WaitAcrossStop() {
  const WorkerPtr worker = Connected();
  worker->Fill();
  const std::string parent = std::to_string(getpid());
  if (fork() == 0) {
    DieWith(std::stoi(parent));
    AwaitState(parent, 'S');
    kill(getppid(), SIGSTOP);
    AwaitState(parent, 'T');
    kill(getppid(), SIGCONT);
    AwaitState(parent, 'S');
    Drain(worker);
    _exit(0);
  }
  return [worker] { return worker->connection.Close(30'000) == 0; };
}

}  // namespace

std::vector<Operation> RuntimeOperations() {
  return {
      {"a heap that is used up",
       {kMemory, "tlsbroker_accept"},
       [] {
         const Act act = TakeConnection();
         UseUpHeap();
         return act;
       }},
      {"the first memory of a thread",
       {kMemory, "tlsbroker_accept"},
       TakeConnection,
       /*own_thread=*/true},
      {"the heaps of many threads",
       {kThreadsMemory, "tlsbroker_accept"},
       [] {
         UseManyHeaps();
         return TakeConnection();
       },
       /*own_thread=*/true},
      {"the heaps of many threads, without files",
       {kThreadsMemory, "tlsbroker_accept"},
       [] {
         UseManyHeaps();
         RefuseFiles();
         return TakeConnection();
       },
       /*own_thread=*/true},
      {"a thread's heap that shrinks",
       {kMemory, kThreadsMemory},
       [] {
         return [] {
           std::array<void*, 8> blocks;
           for (void*& block : blocks) block = Allocate(100'000);
           for (void* block : blocks) ::operator delete(block);
           return true;
         };
       },
       /*own_thread=*/true},
      {"waiting for a lock", {kWaiting, "tlsbroker_end_write"}, WaitForLock},
      {"waiting across a stop", {kWaiting, "tlsbroker_close"}, WaitAcrossStop},
      ClockOperation(),
      {"ending", {kEnd}, [] { return [] { return true; }; }},
  };
}

Operation ClockOperation() {
  return {"reading the clock", {kWaiting}, [] {
            return [] { return std::chrono::steady_clock::now().time_since_epoch().count() > 0; };
          }};
}

}  // namespace tlsbroker
