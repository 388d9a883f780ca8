// A program for the supervisor's tests to start. Without arguments it is a keyholder or a
// handshaker that behaves as the name of its certificate says; else the first argument says what it
// does with descriptor 3. Test only.

#include <dirent.h>
#include <poll.h>
#include <signal.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <set>
#include <string>
#include <variant>

#include "protocol/channel.h"
#include "protocol/supervision.h"

namespace tlsbroker {
namespace {

namespace sv = supervision;

constexpr int kFd = 3;
constexpr uint64_t kFlood = 10'000;  // messages

void Say(const sv::Message& message) {
  const sv::Encoded encoded = sv::Encode(message);
  channel::Send(kFd, encoded.bytes, encoded.fds);
}

// The name of the last certificate; "gone" if the supervisor went away before Start. Only
// handshakers get settings.
std::string ReceiveSnapshot(bool& handshaker) {
  std::string name;
  channel::Message raw;
  while (channel::Receive(kFd, sv::kMaxMessage, 2, raw) == channel::Result::kOk) {
    const auto message = sv::Decode(raw.bytes, std::move(raw.fds));
    if (!message) return "malformed";
    if (const auto* certificate = std::get_if<sv::Certificate>(&*message)) name = certificate->name;
    if (std::holds_alternative<sv::Settings>(*message)) handshaker = true;
    if (std::holds_alternative<sv::Start>(*message)) return name;
  }
  return "gone";
}

void WaitForEndOfFile(const std::string& behaviour) {
  channel::Message raw;
  while (channel::Receive(kFd, sv::kMaxMessage, 2, raw) == channel::Result::kOk) {
    const auto message = sv::Decode(raw.bytes, std::move(raw.fds));
    if (!message || !std::holds_alternative<sv::Drain>(*message)) continue;
    Say(sv::Draining{});
    if (behaviour != "ready-long-drain") Say(sv::Drained{});
  }
}

int BeChild() {
  bool handshaker = false;
  const std::string behaviour = ReceiveSnapshot(handshaker);
  if (behaviour == "bad-key")
    Say(sv::Failed{sv::Failed::Subject::kCertificateKey, 0, "does not match"});
  if (behaviour == "bad-id") Say(sv::Failed{sv::Failed::Subject::kCertificateKey, 4711, "lies"});
  if (behaviour == "counters-before-ready") Say(sv::Counters{});
  if (behaviour == "garbage") (void)!write(kFd, "\xff\xff", 2);
  if (behaviour == "exits") return 3;
  if (behaviour == "stubborn") {
    for (;;) pause();
  }
  if (behaviour == "good" || behaviour.starts_with("ready-")) Say(sv::Ready{});
  if (behaviour == "ready-then-descriptor") {
    const sv::Encoded ready = sv::Encode(sv::Counters{});
    const int fd = kFd;
    channel::Send(kFd, ready.bytes, {&fd, 1});
  }
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

// Answers on the descriptor of each message with its pid. At the end of the queue it ends.
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

// As Serve(), but at SIGTERM it finishes what it is asked for: a connection that is closed by us.
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
  pollfd closed{held.fds[0].get(), 0, 0};  // POLLERR of a pipe without a reader
  poll(&closed, 1, -1);
  return EXIT_SUCCESS;
}

int Main(const std::string& what) {
  if (what == "report") return Report();
  if (what == "serve") return Serve(/*once=*/false);
  if (what == "serve-one") return Serve(/*once=*/true);
  if (what == "serve-and-drain") return ServeAndDrain();
  if (what == "break-queue") return shutdown(kFd, SHUT_RDWR);
  if (what == "ignore-term") {
    signal(SIGTERM, SIG_IGN);
    for (;;) pause();
  }
  return 2;
}

}  // namespace
}  // namespace tlsbroker

int main(int argc, char** argv) {
  // Not by exit(3): where this is confined, the leak check of a sanitized build cannot work.
  _exit(argc == 1 ? tlsbroker::BeChild() : tlsbroker::Main(argv[1]));
}
