// SPDX-License-Identifier: Apache-2.0
// A program that the supervisor's tests start. Without arguments it is a keyholder or a handshaker
// that behaves as the name of its certificate says; else the first argument says what it does with
// descriptor 3. Test only.

#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <set>
#include <span>
#include <string>
#include <variant>

#include "broker/support/heartbeat_variable.h"
#include "protocol/certificate_facts.h"
#include "protocol/channel.h"
#include "protocol/ring.h"
#include "protocol/supervision.h"

namespace tlsbroker {
namespace {

namespace sv = supervision;

constexpr int kFd = 3;
constexpr int kBell = 4;
constexpr int kMemory = 5;
constexpr uint64_t kFlood = 6'000;  // number of messages, more than are read in a second

void Say(std::span<const uint8_t> message) {
  static ring::Writer writer(ring::Mapping(kMemory), kBell);
  while (writer.Send(message) == ring::Result::kWouldBlock) poll(nullptr, 0, 1);
}

void Say(const sv::Message& message) { Say(sv::Encode(message).bytes); }

// Returns the name of the last certificate; "gone" if the supervisor went away before Start. Only
// handshakers get settings.
std::string ReceiveSnapshot(bool& handshaker) {
  std::string name;
  channel::Message raw;
  while (channel::Receive(kFd, sv::kMaxMessage, channel::kMaxFds, raw) == channel::Result::kOk) {
    const auto message = sv::Decode(raw.bytes, std::move(raw.fds));
    if (!message) return "malformed";
    if (const auto* certificate = std::get_if<sv::Certificate>(&*message)) name = certificate->name;
    if (const auto* inspect = std::get_if<sv::Inspect>(&*message))
      name = inspect->key_uri.substr(2);
    if (name == "bad-key-early") return name;
    if (std::holds_alternative<sv::Settings>(*message)) handshaker = true;
    if (std::holds_alternative<sv::Start>(*message)) return name;
  }
  return "gone";
}

void WaitForEndOfFile(const std::string& behaviour) {
  channel::Message raw;
  // Heartbeats are sent even while messages come all the time.
  auto beat = std::chrono::steady_clock::now() + sv::kHeartbeatPeriod;
  for (;;) {
    const auto now = std::chrono::steady_clock::now();
    if (now >= beat) {
      if (behaviour == "good" || behaviour.starts_with("ready-")) Say(sv::Heartbeat{});
      beat = now + sv::kHeartbeatPeriod;
    }
    pollfd control{kFd, POLLIN, 0};
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(beat - now);
    if (poll(&control, 1, static_cast<int>(left.count())) == 0) continue;
    if (channel::Receive(kFd, sv::kMaxMessage, channel::kMaxFds, raw) != channel::Result::kOk)
      return;
    const auto message = sv::Decode(raw.bytes, std::move(raw.fds));
    if (!message || !std::holds_alternative<sv::Drain>(*message)) continue;
    Say(sv::Draining{});
    if (behaviour != "ready-long-drain" && behaviour != "ready-then-failed") Say(sv::Drained{});
  }
}

// What a keyholder that looks into files says, and what it may not say.
void SayInspected(const std::string& behaviour) {
  sv::CertificateFacts facts;
  facts.chain_pem.assign(5000, 'c');
  facts.key = "EC P-256";
  facts.links = {{"CN=a", 0, UINT32_MAX}};
  facts.names = {"a.test"};
  const std::vector<uint8_t> bytes = sv::EncodeFacts(facts);
  const auto half = bytes.begin() + static_cast<ptrdiff_t>(sv::Inspected::kMaxPiece);
  sv::Inspected first{.id = 0, .last = false, .piece = {bytes.begin(), half}};
  sv::Inspected second{.id = 0, .last = true, .piece = {half, bytes.end()}};
  if (behaviour == "inspect-unknown") first.id = 7;
  if (behaviour == "inspect-garbage") second.piece.push_back(0xff);
  if (behaviour == "inspect-nothing") return Say(sv::Ready{});
  if (behaviour == "inspect-counters") Say(sv::Counters{});
  Say(first);
  while (behaviour == "inspect-endless" && getppid() != 1) Say(first);
  Say(second);
  if (behaviour == "inspect-twice") Say(second);
  Say(sv::Ready{});
}

int BeChild() {
  bool handshaker = false;
  const std::string behaviour = ReceiveSnapshot(handshaker);
  if (behaviour.starts_with("inspect-")) SayInspected(behaviour);
  if (behaviour.starts_with("bad-key"))
    Say(sv::Failed{sv::Failed::Subject::kCertificateKey, 0, "does not match"});
  if (behaviour == "bad-key-early") return 1;
  if (behaviour == "bad-id") Say(sv::Failed{sv::Failed::Subject::kCertificateKey, 4711, "lies"});
  if (behaviour == "counters-before-ready") Say(sv::Counters{});
  if (behaviour == "garbage") Say(std::array<uint8_t, 1>{0xff});
  if (behaviour == "garbage-length") {
    const ring::Mapping memory(kMemory);
    std::memset(memory->bytes, 0xff, 4);
    memory->written = 8;
    const uint64_t one = 1;
    (void)!write(kBell, &one, sizeof(one));
  }
  if (behaviour == "exits") return 3;
  if (behaviour == "stubborn") {
    for (;;) pause();
  }
  if (behaviour == "good" || behaviour.starts_with("ready-")) Say(sv::Ready{});
  // A child can send the supervisor nothing over this socket, least of all a descriptor: when the
  // send is refused the child ends.
  if (behaviour == "ready-then-descriptor") {
    const sv::Encoded counters = sv::Encode(sv::Counters{});
    const int fd = kFd;
    if (channel::Send(kFd, counters.bytes, {&fd, 1}) == channel::Result::kClosed) return 3;
  }
  if (behaviour == "ready-then-silent") {
    for (;;) pause();
  }
  if (behaviour == "ready-then-spins") {
    for (;;) {
    }
  }
  if (behaviour == "ready-then-failed" && handshaker) Say(sv::Failed{});
  if (behaviour == "ready-twice") Say(sv::Ready{});
  if (behaviour == "ready-then-drained") Say(sv::Drained{});
  if (behaviour == "ready-then-draining") Say(sv::Draining{});
  if (behaviour == "ready-then-counters" || (behaviour == "good" && handshaker)) {
    sv::Counters counters;
    counters.accepted = 7;
    Say(counters);
  }
  if (behaviour == "ready-handshaker-floods" && handshaker) {
    sv::Counters counters;
    while (counters.accepted < kFlood) {
      ++counters.accepted;
      Say(counters);
    }
  }
  WaitForEndOfFile(behaviour);
  return EXIT_SUCCESS;
}

std::string OpenDescriptors() {
  std::set<int> open;
  DIR* directory = opendir("/proc/self/fd");
  while (const dirent* entry = readdir(directory)) {
    if (entry->d_name[0] != '.') open.insert(std::atoi(entry->d_name));
  }
  open.erase(dirfd(directory));
  closedir(directory);
  std::string text;
  for (const int fd : open) {
    char target[256];
    const std::string link = "/proc/self/fd/" + std::to_string(fd);
    const ssize_t n = readlink(link.c_str(), target, sizeof(target));
    text +=
        std::to_string(fd) + "=" + std::string(target, n > 0 ? static_cast<size_t>(n) : 0) + "\n";
  }
  return text;
}

std::string StatusLine(const std::string& wanted) {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    if (line.starts_with(wanted)) return line + "\n";
  }
  return "";
}

int Report() {
  char directory[256];
  std::string text = OpenDescriptors();
  for (char** variable = environ; *variable != nullptr; ++variable)
    text += *variable + std::string("\n");
  text += StatusLine("SigBlk") + StatusLine("SigIgn") + StatusLine("SigCgt");
  text += std::string("pid=") + std::to_string(getpid()) + "\n";
  text += std::string("session=") + (getsid(0) == getpid() ? "own" : "shared") + "\n";
  text += std::string("directory=") + getcwd(directory, sizeof(directory)) + "\n";
  (void)!write(kFd, text.data(), text.size());
  return EXIT_SUCCESS;
}

// Answers each message, on the descriptor in it, with its pid. Ends at the end of the queue.
int Serve(bool once) {
  channel::Message message;
  while (channel::Receive(kFd, channel::kMaxMessage, 1, message) == channel::Result::kOk) {
    const std::string answer = std::to_string(getpid());
    if (!message.fds.empty()) (void)!write(message.fds[0].get(), answer.data(), answer.size());
    message.fds.clear();
    if (once) return EXIT_SUCCESS;
  }
  return EXIT_SUCCESS;
}

// Does what Serve() does, but at SIGTERM it first finishes its last connection: it waits until the
// test closes the other end.
int ServeAndDrain() {
  sigset_t term;
  sigemptyset(&term);
  sigaddset(&term, SIGTERM);
  sigprocmask(SIG_BLOCK, &term, nullptr);
  const UniqueFd signals(signalfd(-1, &term, SFD_CLOEXEC));
  channel::Message held;  // the last connection, served until its other end is closed
  for (;;) {
    pollfd entries[] = {{signals.get(), POLLIN, 0}, {kFd, POLLIN, 0}};
    poll(entries, 2, -1);
    if (entries[0].revents != 0) break;
    channel::Message message;
    if (channel::Receive(kFd, channel::kMaxMessage, 1, message) != channel::Result::kOk) break;
    const std::string answer = std::to_string(getpid());
    if (!message.fds.empty()) (void)!write(message.fds[0].get(), answer.data(), answer.size());
    held = std::move(message);
  }
  if (held.fds.empty()) return EXIT_SUCCESS;
  pollfd closed{held.fds[0].get(), 0, 0};  // POLLERR: the pipe has no reader any more
  poll(&closed, 1, -1);
  return EXIT_SUCCESS;
}

// Beats once, and then tries to make the reader of heartbeats wait: it sets the descriptor to
// blocking, and holds the lock that a pipe would have by a splice(2) from a socket without data.
int HoldHeartbeats() {
  const int fd = std::atoi(std::getenv(kHeartbeatVariable));
  const uint64_t one = 1;
  (void)!write(fd, &one, sizeof(one));
  fcntl(fd, F_SETFL, 0);
  int ends[2];
  (void)!socketpair(AF_UNIX, SOCK_STREAM, 0, ends);
  (void)!splice(ends[0], nullptr, fd, nullptr, 1, 0);
  for (;;) pause();
}

int Main(const std::string& what) {
  if (what == "report") return Report();
  if (what == "serve") return Serve(/*once=*/false);
  if (what == "serve-one") return Serve(/*once=*/true);
  if (what == "serve-and-drain") return ServeAndDrain();
  if (what == "break-queue") return shutdown(kFd, SHUT_RDWR);
  if (what == "hold-heartbeats") return HoldHeartbeats();
  if (what == "ignore-term") {
    signal(SIGTERM, SIG_IGN);
    for (;;) pause();
  }
  return 2;
}

}  // namespace
}  // namespace tlsbroker

int main(int argc, char** argv) {
  // exit(3) is not used: where this process is confined, the leak check of a sanitized build cannot
  // work.
  _exit(argc == 1 ? tlsbroker::BeChild() : tlsbroker::Main(argv[1]));
}
