// SPDX-License-Identifier: Apache-2.0
#include "tests/bench/programs/service.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <unordered_map>
#include <vector>

namespace tlsbroker::bench {
namespace {

constexpr size_t kChunk = 64 * 1024;

[[noreturn]] void Die(const char* what) {
  perror(what);
  exit(1);
}

std::array<char, kChunk>& Buffer() {
  static std::array<char, kChunk> buffer;
  return buffer;
}

// A file in memory to send from, as large as the most that one sendfile(2) is asked for.
int File() {
  static const int file = [] {
    const int fd = memfd_create("bench", MFD_CLOEXEC);
    if (fd < 0 || ftruncate(fd, 1 << 20) != 0) Die("memfd_create");
    return fd;
  }();
  return file;
}

bool ReadAll(Stream& stream, char* buffer, size_t size) {
  for (size_t done = 0; done < size;) {
    const size_t n = stream.Read(buffer + done, size - done);
    if (n == 0) return false;
    done += n;
  }
  return true;
}

bool Send(Stream& stream, uint64_t size) {
  for (; size > 0; size -= std::min<uint64_t>(size, kChunk)) {
    if (!stream.WriteAll(Buffer().data(), std::min<uint64_t>(size, kChunk))) return false;
  }
  return true;
}

bool SendFile(Stream& stream, uint64_t size) {
  for (; size > 0; size -= std::min<uint64_t>(size, 1 << 20)) {
    if (!stream.SendFileAll(File(), std::min<uint64_t>(size, 1 << 20))) return false;
  }
  return true;
}

bool Receive(Stream& stream, uint64_t size) {
  while (size > 0) {
    const size_t n = stream.Read(Buffer().data(), std::min<uint64_t>(size, kChunk));
    if (n == 0) return false;
    size -= n;
  }
  return stream.WriteAll("r", 1);
}

bool Echo(Stream& stream, size_t size) {
  std::vector<char> message(size);
  while (ReadAll(stream, message.data(), size)) {
    if (!stream.WriteAll(message.data(), size)) return false;
  }
  return false;
}

}  // namespace

std::string Command(Op op, uint64_t number) {
  char text[kCommandSize + 1];
  snprintf(text, sizeof(text), "%c%015llu", static_cast<char>(op),
           static_cast<unsigned long long>(number));
  return text;
}

uint64_t NowNs() {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<uint64_t>(now.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(now.tv_nsec);
}

size_t FdStream::Read(void* buffer, size_t size) {
  const ssize_t n = read(in_.get(), buffer, size);
  return n < 0 ? 0 : static_cast<size_t>(n);
}

bool FdStream::WriteAll(const void* bytes, size_t size) {
  const auto* next = static_cast<const char*>(bytes);
  while (size > 0) {
    const ssize_t n = write(out_, next, size);
    if (n <= 0) return false;
    next += n;
    size -= static_cast<size_t>(n);
  }
  return true;
}

bool FdStream::SendFileAll(int file, size_t size) {
  off_t offset = 0;
  while (size > 0) {
    const ssize_t n = sendfile(out_, file, &offset, size);
    if (n <= 0) return false;
    size -= static_cast<size_t>(n);
  }
  return true;
}

bool ServeCommand(Stream& stream, uint64_t taken_at) {
  std::array<char, kCommandSize + 1> command{};
  if (!ReadAll(stream, command.data(), kCommandSize)) return false;
  const uint64_t number = strtoull(command.data() + 1, nullptr, 10);
  switch (static_cast<Op>(command[0])) {
    case Op::kHello:
      return stream.WriteAll("h", 1);
    case Op::kTime: {
      char text[21];
      snprintf(text, sizeof(text), "%020llu", static_cast<unsigned long long>(taken_at));
      return stream.WriteAll(text, 20);
    }
    case Op::kSend:
      return Send(stream, number);
    case Op::kSendFile:
      return SendFile(stream, number);
    case Op::kReceive:
      return Receive(stream, number);
    case Op::kEcho:
      return Echo(stream, number);
  }
  return false;
}

void ServeForever(int entry, const std::function<std::unique_ptr<Stream>()>& take) {
  struct Taken {
    std::unique_ptr<Stream> stream;
    uint64_t at;
  };
  std::unordered_map<int, Taken> connections;
  const int epoll = epoll_create1(EPOLL_CLOEXEC);
  const auto watch = [epoll](int fd) {
    epoll_event event{.events = EPOLLIN, .data = {.fd = fd}};
    if (epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) != 0) Die("epoll_ctl");
  };
  watch(entry);
  while (true) {
    epoll_event events[64];
    const int count = epoll_wait(epoll, events, 64, -1);
    for (int i = 0; i < count; ++i) {
      const int fd = events[i].data.fd;
      if (fd == entry) {
        std::unique_ptr<Stream> stream = take();
        const uint64_t now = NowNs();
        if (!stream) continue;
        const int its = stream->fd();
        watch(its);
        connections[its] = {std::move(stream), now};
      } else if (Taken& taken = connections[fd]; !ServeCommand(*taken.stream, taken.at)) {
        taken.stream->End();
        epoll_ctl(epoll, EPOLL_CTL_DEL, fd, nullptr);
        connections.erase(fd);
      }
    }
  }
}

void RaiseDescriptorLimit() {
  rlimit limit;
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) Die("getrlimit");
  limit.rlim_cur = limit.rlim_max;
  if (setrlimit(RLIMIT_NOFILE, &limit) != 0) Die("setrlimit");
}

int Listen(uint16_t port) {
  const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  const int on = 1;
  setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  if (bind(fd, reinterpret_cast<sockaddr*>(&address), sizeof(address)) != 0) Die("bind");
  if (listen(fd, 4096) != 0) Die("listen");
  return fd;
}

}  // namespace tlsbroker::bench
