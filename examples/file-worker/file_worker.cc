// SPDX-License-Identifier: Apache-2.0
// An HTTP/1.1 worker: serves the files below a directory with sendfile(2), over connections that
// tlsbroker hands to it. It links no TLS library and never sees a key. One thread serves them all,
// with an epoll loop as in ../event-loop-worker, where its rules are explained: whatever event
// comes, Turn() does all that the connection can do now. Usage: file-worker DIRECTORY
//
//   GET /                  a page that says what this connection is
//   GET /connection.json   the same for programs
//   GET, HEAD /NAME        a file
//   POST /echo, /count     the body back; the number of its bytes

#include <fcntl.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <tlsbroker/tlsbroker.h>
#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <cerrno>
#include <charconv>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <list>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace {

using Clock = std::chrono::steady_clock;

constexpr size_t kMaxHead = 16 * 1024;
constexpr size_t kMaxBody = 64 * 1024 * 1024;
constexpr size_t kPiece = 64 * 1024;  // read at once, and of a body kept to be echoed
constexpr std::chrono::seconds kIdle{15};
constexpr std::chrono::seconds kLinger{2};  // for the peer's end, when we have ended first
constexpr std::chrono::seconds kTick{1};    // how exact these times are
constexpr int kRounds = 16;  // of one connection, before other connections have their turn

struct Request {
  std::string method, path;
  size_t body = 0;
  bool has_length = false;
  bool old = false;  // HTTP/1.0
  bool keep_alive = true;
};

std::string Lower(std::string_view text) {
  std::string lower(text);
  std::ranges::transform(lower, lower.begin(), [](unsigned char c) { return std::tolower(c); });
  return lower;
}

std::string_view Trim(std::string_view text) {
  while (!text.empty() && (text.front() == ' ' || text.front() == '\t')) text.remove_prefix(1);
  while (!text.empty() && (text.back() == ' ' || text.back() == '\t')) text.remove_suffix(1);
  return text;
}

// Connection: is a list (RFC 9110 section 7.6.1).
void ParseConnection(std::string_view value, Request& request) {
  while (!value.empty()) {
    const std::string option = Lower(Trim(value.substr(0, value.find(','))));
    if (option == "close") request.keep_alive = false;
    if (option == "keep-alive" && request.old) request.keep_alive = true;
    value.remove_prefix(std::min(value.find(','), value.size() - 1) + 1);
  }
}

// 0, or the HTTP status that says what is wrong with the field.
int ParseField(std::string_view line, Request& request) {
  const size_t colon = line.find(':');
  if (colon == std::string_view::npos || colon == 0) return 400;
  const std::string name = Lower(line.substr(0, colon));
  if (name != Trim(name)) return 400;  // RFC 9112 section 5.1
  const std::string_view value = Trim(line.substr(colon + 1));
  if (name == "connection") ParseConnection(value, request);
  if (name == "transfer-encoding") return 411;
  if (name != "content-length") return 0;
  if (std::exchange(request.has_length, true)) return 400;
  const auto parsed = std::from_chars(value.data(), value.data() + value.size(), request.body);
  if (value.empty() || parsed.ec != std::errc() || parsed.ptr != value.data() + value.size())
    return 400;
  return request.body > kMaxBody ? 413 : 0;
}

int ParseHead(std::string_view head, Request& request) {
  const auto is_control = [](char c) {
    return (c >= 0 && c < ' ' && c != '\t' && c != '\r' && c != '\n') || c == '\x7f';
  };
  if (std::ranges::any_of(head, is_control)) return 400;
  const std::string_view line = head.substr(0, head.find("\r\n"));
  const size_t first = line.find(' ');
  const size_t second = line.rfind(' ');
  if (first == std::string_view::npos || second <= first) return 400;
  const std::string_view version = line.substr(second + 1);
  if (!version.starts_with("HTTP/1.")) return 505;
  // RFC 9112 section 9.3: before HTTP/1.1 the client has to ask for it.
  request.old = version == "HTTP/1.0";
  request.keep_alive = !request.old;
  request.method = line.substr(0, first);
  request.path = line.substr(first + 1, second - first - 1);
  request.path = request.path.substr(0, request.path.find('?'));
  if (!request.path.starts_with('/')) return 400;
  head.remove_prefix(line.size() + 2);
  while (!head.empty()) {
    const size_t end = head.find("\r\n");
    if (const int wrong = ParseField(head.substr(0, end), request); wrong != 0) return wrong;
    head.remove_prefix(end + 2);
  }
  return 0;
}

const char* Reason(int status) {
  switch (status) {
    case 200:
      return "OK";
    case 400:
      return "Bad Request";
    case 404:
      return "Not Found";
    case 405:
      return "Method Not Allowed";
    case 411:
      return "Length Required";
    case 413:
      return "Content Too Large";
    case 505:
      return "HTTP Version Not Supported";
    default:
      return "Error";
  }
}

std::string Head(int status, std::string_view type, size_t size, const Request& request) {
  std::string head = "HTTP/1.1 " + std::to_string(status) + " " + Reason(status) + "\r\n";
  head += "Content-Type: " + std::string(type) + "\r\n";
  head += "Content-Length: " + std::to_string(size) + "\r\n";
  if (status == 405) head += "Allow: GET, HEAD, POST\r\n";
  if (!request.keep_alive) head += "Connection: close\r\n";
  if (request.keep_alive && request.old) head += "Connection: keep-alive\r\n";
  return head + "\r\n";
}

// The fields of the hand-off. The peer chose some of them: whoever prints them has to escape them.
std::vector<std::pair<const char*, std::string>> Fields(const tlsbroker_conn* conn) {
  const auto text = [](const char* value) { return std::string(value != nullptr ? value : ""); };
  return {{"mode", text(tlsbroker_conn_mode_name(conn))},
          {"reason", text(tlsbroker_conn_reason(conn))},
          {"version", text(tlsbroker_conn_tls_version(conn))},
          {"cipher", text(tlsbroker_conn_cipher(conn))},
          {"group", text(tlsbroker_conn_group(conn))},
          {"alpn", text(tlsbroker_conn_alpn(conn))},
          {"server_name", text(tlsbroker_conn_server_name(conn))},
          {"resumed", tlsbroker_conn_resumed(conn) == 1 ? "yes" : "no"},
          {"service", text(tlsbroker_conn_service(conn))},
          {"peer", text(tlsbroker_conn_peer_text(conn))},
          {"local", text(tlsbroker_conn_local_text(conn))}};
}

// Keeps letters, digits and what addresses and names consist of; replaces the rest by '?'.
std::string Plain(std::string_view text) {
  std::string plain(text);
  for (char& c : plain) {
    const bool fine = std::isalnum(static_cast<unsigned char>(c)) != 0 ||
                      std::string_view(".:-_[]/ ").find(c) != std::string_view::npos;
    if (!fine) c = '?';
  }
  return plain;
}

std::string Json(const tlsbroker_conn* conn) {
  std::string json = "{";
  for (const auto& [name, value] : Fields(conn)) {
    json += std::string(json.size() > 1 ? ", " : "") + '"' + name + "\": \"" + Plain(value) + '"';
  }
  return json + "}\n";
}

std::string Page(const tlsbroker_conn* conn) {
  std::string rows;
  for (const auto& [name, value] : Fields(conn)) {
    rows +=
        std::string("<tr><th>") + name + "<td>" + (value.empty() ? "&ndash;" : Plain(value)) + "\n";
  }
  return "<!doctype html><html lang=en><meta charset=utf-8><title>tlsbroker</title>\n"
         "<style>body{font:16px/1.5 sans-serif;margin:3em auto;max-width:40em}"
         "th{text-align:left;padding-right:2em}</style>\n"
         "<h1>This connection</h1>\n<table>\n" +
         rows +
         "</table>\n<p>The process that wrote this page links no TLS library and has never seen a "
         "key. It was handed a file descriptor.\n";
}

// Opens what `path` names below `root`, one component at a time and through no symbolic link; -1 if
// there is no such file. Not with openat2(2): where Landlock cannot forbid truncating, a worker has
// no openat2.
int OpenBelow(int root, std::string_view path) {
  int at = root;
  while (!path.empty()) {
    path.remove_prefix(1);  // the slash
    const std::string name(path.substr(0, path.find('/')));
    path.remove_prefix(name.size());
    // openat(2) would see only what is in front of a NUL.
    const bool up =
        name.empty() || name == "." || name == ".." || name.find('\0') != std::string::npos;
    const int next =
        up ? -1 : openat(at, name.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOFOLLOW);
    if (at != root) close(at);
    if (next < 0) return -1;
    at = next;
  }
  return at;
}

// One connection. What it does next depends on `stage_`; what is to be sent goes first.
class Client {
 public:
  Client(tlsbroker_conn* conn, int root) : conn_(conn), root_(root) {}
  ~Client() {
    CloseFile();
    if (stage_ == Stage::kEnded) {
      // The peer was told that it has everything. Whether it says so, too, does not matter.
      (void)tlsbroker_close(conn_, 0);
    } else {
      tlsbroker_abort(conn_);  // a part must not look like the whole
    }
  }
  Client(const Client&) = delete;
  Client& operator=(const Client&) = delete;

  int fd() const { return tlsbroker_conn_fd(conn_); }

  enum class Result { kWaits, kMoved, kOver };

  // Does what can be done without waiting.
  Result Step() {
    const int sent = Send();
    if (sent < 0) return Result::kOver;
    const int moved = HasOutput() ? 0 : Advance();
    if (moved < 0 || (stage_ == Stage::kEnded && peer_ended_)) return Result::kOver;
    if (sent == 0 && moved == 0) return Result::kWaits;
    if (stage_ != Stage::kEnded) deadline_ = Clock::now() + kIdle;
    return Result::kMoved;
  }

  // To be called now and then. False if the connection is over.
  bool Look(Clock::time_point now, bool stopping) {
    stopping_ = stopping;
    const bool idle = stage_ == Stage::kHead && input_.empty() && !HasOutput();
    if (idle && (stopping || now >= deadline_)) stage_ = Stage::kEnding;
    return now < deadline_ || idle;
  }

 private:
  // These are 1 if something was done, 0 if not now, -1 if the connection is over.
  int Advance() {
    switch (stage_) {
      case Stage::kHead:
        return ReadHead();
      case Stage::kBody:
        return ReadBody();
      case Stage::kAnswered:
        stage_ = request_.keep_alive && !stopping_ ? Stage::kHead : Stage::kEnding;
        return 1;
      case Stage::kEnding:
        return End();
      case Stage::kEnded:
        return Discard();
    }
    return -1;
  }

  bool HasOutput() const { return !output_.empty() || file_ >= 0; }

  int Send() {
    if (!output_.empty()) {
      const ssize_t n = tlsbroker_write(conn_, output_.data(), output_.size(), 0);
      if (n < 0) return n == -EAGAIN ? 0 : -1;
      output_.erase(0, static_cast<size_t>(n));
      return 1;
    }
    if (file_ < 0) return 0;
    const ssize_t n =
        file_left_ == 0 ? 0 : tlsbroker_sendfile(conn_, file_, &file_offset_, file_left_);
    if (n < 0) return n == -EAGAIN ? 0 : -1;
    if (n == 0 && file_left_ > 0) return -1;  // it has shrunk: not the promised length
    file_left_ -= static_cast<size_t>(n);
    if (file_left_ == 0) CloseFile();
    return 1;
  }

  void CloseFile() {
    if (file_ >= 0) close(file_);
    file_ = -1;
  }

  // 0 also at the end of the stream, which `peer_ended_` tells.
  int Fill() {
    static char buffer[kPiece];
    const ssize_t n = tlsbroker_read(conn_, buffer, sizeof(buffer));
    if (n == -EAGAIN) return 0;
    if (n < 0) return -1;
    peer_ended_ = n == 0;
    input_.append(buffer, static_cast<size_t>(n));
    return n > 0 ? 1 : 0;
  }

  int ReadHead() {
    const size_t end = input_.find("\r\n\r\n");
    if (end == std::string::npos) {
      if (input_.size() > kMaxHead) return -1;
      const int filled = Fill();
      if (!peer_ended_) return filled;
      stage_ = Stage::kEnding;  // it asks for nothing more
      return 1;
    }
    const std::string head = input_.substr(0, end + 2);
    input_.erase(0, end + 4);
    request_ = Request();
    if (const int wrong = ParseHead(head, request_); wrong != 0) {
      request_.keep_alive = false;
      Refuse(wrong);
    } else {
      Serve();
    }
    return 1;
  }

  void Serve() {
    if (request_.method == "POST") return ServeBody();
    if (request_.method != "GET" && request_.method != "HEAD") return Refuse(405);
    if (request_.body > 0) return Refuse(400);
    if (request_.path == "/") return Answer(200, "text/html; charset=utf-8", Page(conn_));
    if (request_.path == "/connection.json") return Answer(200, "application/json", Json(conn_));
    ServeFile();
  }

  void Answer(int status, std::string_view type, std::string_view body) {
    output_ += Head(status, type, body.size(), request_);
    if (request_.method != "HEAD") output_ += body;
    stage_ = Stage::kAnswered;
  }

  void Refuse(int status) {
    // What else comes may be the body of what was refused.
    if (status != 404 || request_.body > 0) request_.keep_alive = false;
    Answer(status, "text/plain", std::string(Reason(status)) + "\n");
  }

  void ServeFile() {
    const int file = OpenBelow(root_, request_.path);
    struct stat status;
    if (file < 0 || fstat(file, &status) != 0 || !S_ISREG(status.st_mode)) {
      if (file >= 0) close(file);
      return Refuse(404);
    }
    file_left_ = static_cast<size_t>(status.st_size);
    output_ += Head(200, "application/octet-stream", file_left_, request_);
    stage_ = Stage::kAnswered;
    if (request_.method == "HEAD") {
      close(file);
      return;
    }
    file_ = file;
    file_offset_ = 0;
  }

  void ServeBody() {
    if (request_.path != "/echo" && request_.path != "/count") return Refuse(404);
    body_left_ = request_.body;
    if (request_.path == "/echo")
      output_ += Head(200, "application/octet-stream", request_.body, request_);
    stage_ = Stage::kBody;
  }

  // What was read before is sent by now: a peer that does not read is not read from.
  int ReadBody() {
    const bool echo = request_.path == "/echo";
    if (body_left_ == 0) {
      stage_ = Stage::kAnswered;
      if (!echo) Answer(200, "text/plain", std::to_string(request_.body) + "\n");
      return 1;
    }
    if (input_.empty()) {
      const int filled = Fill();
      return peer_ended_ ? -1 : filled;
    }
    const size_t size = std::min(body_left_, input_.size());
    if (echo) output_.append(input_, 0, size);
    input_.erase(0, size);
    body_left_ -= size;
    return 1;
  }

  int End() {
    const int result = tlsbroker_end_write(conn_);
    // No event tells when -ETOOMANYREFS is over: the next Look() tries again.
    if (result == -EAGAIN || result == -ETOOMANYREFS) return 0;
    if (result < 0) return -1;
    stage_ = Stage::kEnded;
    deadline_ = Clock::now() + kLinger;
    return 1;
  }

  // TCP answers a close with unread data by a reset, which may destroy what was written last.
  int Discard() {
    if (peer_ended_) return 0;
    const int filled = Fill();
    input_.clear();
    return filled;
  }

  enum class Stage { kHead, kBody, kAnswered, kEnding, kEnded };

  tlsbroker_conn* const conn_;
  const int root_;
  Stage stage_ = Stage::kHead;
  Clock::time_point deadline_ = Clock::now() + kIdle;
  bool peer_ended_ = false;
  bool stopping_ = false;
  Request request_;
  std::string input_, output_;
  size_t body_left_ = 0;
  int file_ = -1;
  off_t file_offset_ = 0;
  size_t file_left_ = 0;
};

class Loop {
 public:
  Loop(tlsbroker_queue* queue, int root)
      : queue_(queue), root_(root), epoll_(epoll_create1(EPOLL_CLOEXEC)) {}

  // Returns an exit status.
  int Run() {
    if (epoll_ < 0 || !WatchSignals()) return Fail("epoll");
    WatchQueue(true);
    while (accepting_ || !clients_.empty()) {
      epoll_event events[64];
      const int count = epoll_wait(epoll_, events, 64, WaitMs());
      if (count < 0 && errno != EINTR) return Fail("epoll_wait");
      // A client is in these once, and Turn() removes no other.
      for (int i = 0; i < count; ++i) Dispatch(events[i].data.ptr);
      if (Clock::now() >= next_look_) LookAtAll();
    }
    return 0;
  }

 private:
  struct Entry : Client {
    using Client::Client;
    std::list<Entry>::iterator place;
  };

  static int Fail(const char* what) {
    std::perror(what);
    return 1;
  }

  bool WatchSignals() {
    sigset_t term;
    sigemptyset(&term);
    sigaddset(&term, SIGTERM);
    sigprocmask(SIG_BLOCK, &term, nullptr);
    signals_ = signalfd(-1, &term, SFD_CLOEXEC | SFD_NONBLOCK);
    epoll_event event{.events = EPOLLIN, .data = {.ptr = &signals_}};
    return signals_ >= 0 && epoll_ctl(epoll_, EPOLL_CTL_ADD, signals_, &event) == 0;
  }

  void WatchQueue(bool wanted) {
    if (wanted == queue_watched_) return;
    epoll_event event{.events = EPOLLIN, .data = {.ptr = queue_}};
    const int operation = wanted ? EPOLL_CTL_ADD : EPOLL_CTL_DEL;
    if (epoll_ctl(epoll_, operation, tlsbroker_queue_fd(queue_), &event) == 0)
      queue_watched_ = wanted;
  }

  bool Watch(int operation, Entry& client) const {
    epoll_event event{.events = EPOLLIN | EPOLLOUT | EPOLLET, .data = {.ptr = &client}};
    return epoll_ctl(epoll_, operation, client.fd(), &event) == 0;
  }

  void Dispatch(void* what) {
    if (what == &signals_) {
      TakeSignal();
    } else if (what == queue_) {
      if (queue_watched_) AcceptOne();
    } else {
      Turn(*static_cast<Entry*>(what));
    }
  }

  // One at a time, so that other workers of the service get theirs.
  void AcceptOne() {
    tlsbroker_conn* conn = nullptr;
    const int result = tlsbroker_accept(queue_, TLSBROKER_DONTWAIT, &conn);
    if (result == 0) return Add(conn);
    if (result == -EAGAIN) return;  // another worker was faster
    if (result == TLSBROKER_E_GONE) {
      accepting_ = false;
    } else {
      std::fprintf(stderr, "file-worker: accept: %s\n", tlsbroker_strerror(result));
      if (result == TLSBROKER_E_HANDOFF) return;
    }
    WatchQueue(false);  // with too many descriptors, until the next look
  }

  void Add(tlsbroker_conn* conn) {
    (void)tlsbroker_conn_set_nonblocking(conn, 1);
    Entry& client = clients_.emplace_front(conn, root_);
    client.place = clients_.begin();
    if (!Watch(EPOLL_CTL_ADD, client)) clients_.pop_front();
  }

  void Remove(Entry& client) {
    (void)epoll_ctl(epoll_, EPOLL_CTL_DEL, client.fd(), nullptr);
    clients_.erase(client.place);
  }

  void Turn(Entry& client) {
    for (int round = 0; round < kRounds; ++round) {
      const Client::Result result = client.Step();
      if (result == Client::Result::kOver) return Remove(client);
      if (result == Client::Result::kWaits) return;
    }
    // The same events again: epoll reports the client behind those that are ready now.
    if (!Watch(EPOLL_CTL_MOD, client)) Remove(client);
  }

  // The first one: no more connections, and those that are open finish what they are at. The second
  // one: at once.
  void TakeSignal() {
    signalfd_siginfo info;
    if (read(signals_, &info, sizeof(info)) != sizeof(info)) return;
    if (std::exchange(stopping_, true)) std::_Exit(0);
    accepting_ = false;
    WatchQueue(false);
    next_look_ = {};
  }

  void LookAtAll() {
    const Clock::time_point now = Clock::now();
    for (auto next = clients_.begin(); next != clients_.end();) {
      Entry& client = *next++;
      client.Look(now, stopping_) ? Turn(client) : Remove(client);
    }
    if (accepting_) WatchQueue(true);
    next_look_ = now + kTick;
  }

  int WaitMs() const {
    if (clients_.empty() && queue_watched_) return -1;
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(next_look_ - Clock::now());
    return static_cast<int>(std::max<int64_t>(left.count(), 0));
  }

  tlsbroker_queue* const queue_;
  const int root_;
  const int epoll_;
  int signals_ = -1;
  bool queue_watched_ = false;
  bool accepting_ = true;
  bool stopping_ = false;
  Clock::time_point next_look_;
  std::list<Entry> clients_;
};

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fprintf(stderr, "usage: file-worker DIRECTORY (started by tlsbrokerd)\n");
    return 2;
  }
  signal(SIGPIPE, SIG_IGN);
  const int root = open(argv[1], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (root < 0) {
    std::perror(argv[1]);
    return 1;
  }
  tlsbroker_queue* queue = nullptr;
  if (const int result = tlsbroker_queue_from_environment(nullptr, &queue); result < 0) {
    std::fprintf(stderr, "file-worker: no queue: %s\n", tlsbroker_strerror(result));
    return 1;
  }
  return Loop(queue, root).Run();
}
