// An HTTP/1.1 worker: serves the files below a directory with sendfile(2), over connections that
// tlsbroker hands to it. It links no TLS library and never sees a key. Usage: file-worker DIRECTORY
//
//   GET /                  a page that says what this connection is
//   GET /connection.json   the same for programs
//   GET, HEAD /NAME        a file
//   POST /echo, /count     the body back; the number of its bytes

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <tlsbroker/tlsbroker.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstdio>
#include <cstring>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

namespace {

constexpr size_t kMaxHead = 16 * 1024;
constexpr size_t kMaxBody = 64 * 1024 * 1024;
constexpr int kIdleMs = 15'000;
constexpr int kThreads = 8;

struct Request {
  std::string method, path;
  size_t body = 0;
  bool keep_alive = true;
};

// One connection. Reading gives up after kIdleMs of silence.
class Client {
 public:
  explicit Client(tlsbroker_conn* conn) : conn_(conn) {}
  tlsbroker_conn* conn() const { return conn_; }

  // The bytes up to the empty line; empty at the end, or when it is too long.
  std::string ReadHead() {
    size_t end;
    while ((end = pending_.find("\r\n\r\n")) == std::string::npos) {
      if (pending_.size() > kMaxHead || !Fill()) return "";
    }
    std::string head = pending_.substr(0, end + 2);
    pending_.erase(0, end + 4);
    return head;
  }

  // Up to 64 KiB of body, at most `most`; empty at the end or an error.
  std::string ReadBody(size_t most) {
    if (pending_.empty() && !Fill()) return "";
    std::string part = pending_.substr(0, most);
    pending_.erase(0, part.size());
    return part;
  }

  bool Write(std::string_view text, unsigned flags = 0) {
    while (!text.empty()) {
      const ssize_t n = tlsbroker_write(conn_, text.data(), text.size(), flags);
      if (n < 0) return false;
      text.remove_prefix(static_cast<size_t>(n));
    }
    return true;
  }

 private:
  bool Fill() {
    pollfd readable{tlsbroker_conn_fd(conn_), POLLIN, 0};
    if (poll(&readable, 1, kIdleMs) != 1) return false;
    char buffer[64 * 1024];
    const ssize_t n = tlsbroker_read(conn_, buffer, sizeof(buffer));
    if (n > 0) pending_.append(buffer, static_cast<size_t>(n));
    return n > 0;
  }

  tlsbroker_conn* conn_;
  std::string pending_;
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

// 0, or the status that says what is wrong with it.
int ParseField(std::string_view line, Request& request) {
  const size_t colon = line.find(':');
  if (colon == std::string_view::npos || colon == 0) return 400;
  const std::string name = Lower(line.substr(0, colon));
  const std::string_view value = Trim(line.substr(colon + 1));
  if (name == "connection") request.keep_alive = Lower(value) != "close";
  if (name == "transfer-encoding") return 411;
  if (name != "content-length") return 0;
  const auto parsed = std::from_chars(value.data(), value.data() + value.size(), request.body);
  if (value.empty() || parsed.ec != std::errc() || parsed.ptr != value.data() + value.size())
    return 400;
  return request.body > kMaxBody ? 413 : 0;
}

int ParseHead(std::string_view head, Request& request) {
  const std::string_view line = head.substr(0, head.find("\r\n"));
  const size_t first = line.find(' ');
  const size_t second = line.rfind(' ');
  if (first == std::string_view::npos || second <= first) return 400;
  if (!line.substr(second + 1).starts_with("HTTP/1.")) return 505;
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

std::string Head(int status, std::string_view type, size_t size, bool keep_alive) {
  std::string head = "HTTP/1.1 " + std::to_string(status) + " " + Reason(status) + "\r\n";
  head += "Content-Type: " + std::string(type) + "\r\n";
  head += "Content-Length: " + std::to_string(size) + "\r\n";
  if (status == 405) head += "Allow: GET, HEAD, POST\r\n";
  return head + (keep_alive ? "\r\n" : "Connection: close\r\n\r\n");
}

bool Answer(Client& client, const Request& request, int status, std::string_view type,
            std::string_view body) {
  if (!client.Write(Head(status, type, body.size(), request.keep_alive), TLSBROKER_MORE))
    return false;
  return client.Write(request.method == "HEAD" ? "" : body);
}

bool Refuse(Client& client, Request& request, int status) {
  request.keep_alive = request.keep_alive && status == 404;
  return Answer(client, request, status, "text/plain", std::string(Reason(status)) + "\n");
}

// The fields of the hand-off. What the peer chose is escaped by who prints it.
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

// Letters, digits and what addresses and names are made of stand as they are; the rest as '?'.
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

// What `path` names below `root`, one component at a time and through no symbolic link; -1 if there
// is none. Not openat2(2): where Landlock cannot forbid truncating, a worker has no openat2.
int OpenBelow(int root, std::string_view path) {
  int at = root;
  while (!path.empty()) {
    path.remove_prefix(1);  // the slash
    const std::string name(path.substr(0, path.find('/')));
    path.remove_prefix(name.size());
    const bool up = name.empty() || name == "." || name == "..";
    const int next =
        up ? -1 : openat(at, name.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOFOLLOW);
    if (at != root) close(at);
    if (next < 0) return -1;
    at = next;
  }
  return at;
}

bool SendFile(Client& client, int file, size_t size) {
  off_t offset = 0;
  while (static_cast<size_t>(offset) < size) {
    const ssize_t n =
        tlsbroker_sendfile(client.conn(), file, &offset, size - static_cast<size_t>(offset));
    if (n <= 0) return false;  // an error, or the file has shrunk: the promised length is not kept
  }
  return true;
}

bool ServeFile(Client& client, Request& request, int root) {
  const int file = OpenBelow(root, request.path);
  struct stat status;
  if (file < 0 || fstat(file, &status) != 0 || !S_ISREG(status.st_mode)) {
    if (file >= 0) close(file);
    return Refuse(client, request, 404);
  }
  const auto size = static_cast<size_t>(status.st_size);
  bool done = client.Write(Head(200, "application/octet-stream", size, request.keep_alive));
  if (done && request.method == "GET") done = SendFile(client, file, size);
  close(file);
  return done;
}

bool ServeBody(Client& client, Request& request) {
  const bool echo = request.path == "/echo";
  if (!echo && request.path != "/count") return Refuse(client, request, 404) && false;
  if (echo &&
      !client.Write(Head(200, "application/octet-stream", request.body, request.keep_alive))) {
    return false;
  }
  for (size_t left = request.body; left > 0;) {
    const std::string part = client.ReadBody(left);
    if (part.empty() || (echo && !client.Write(part))) return false;
    left -= part.size();
  }
  return echo || Answer(client, request, 200, "text/plain", std::to_string(request.body) + "\n");
}

bool Serve(Client& client, Request& request, int root) {
  if (request.method == "POST") return ServeBody(client, request);
  if (request.method != "GET" && request.method != "HEAD") return Refuse(client, request, 405);
  if (request.body > 0) return Refuse(client, request, 400);
  if (request.path == "/") {
    return Answer(client, request, 200, "text/html; charset=utf-8", Page(client.conn()));
  }
  if (request.path == "/connection.json") {
    return Answer(client, request, 200, "application/json", Json(client.conn()));
  }
  return ServeFile(client, request, root);
}

// True if the connection has come to a good end; a cut-off answer must not look like a whole one.
bool ServeConnection(Client& client, int root) {
  while (true) {
    const std::string head = client.ReadHead();
    if (head.empty()) return true;
    Request request;
    const int wrong = ParseHead(head, request);
    if (wrong != 0) return Refuse(client, request, wrong);
    if (!Serve(client, request, root)) return false;
    if (!request.keep_alive) return true;
  }
}

// Until the broker is gone or `signals` has one, which nobody reads: all threads are to see it.
bool WaitForConnection(tlsbroker_queue* queue, int signals) {
  pollfd entries[] = {{signals, POLLIN, 0}, {tlsbroker_queue_fd(queue), POLLIN, 0}};
  while (poll(entries, 2, -1) < 0) {
  }
  return entries[0].revents == 0;
}

void Work(tlsbroker_queue* queue, int signals, int root) {
  while (WaitForConnection(queue, signals)) {
    tlsbroker_conn* conn = nullptr;
    const int result = tlsbroker_accept(queue, TLSBROKER_DONTWAIT, &conn);
    if (result == TLSBROKER_E_GONE) return;
    if (result == -EAGAIN) continue;  // another one was faster
    if (result < 0) {
      std::fprintf(stderr, "file-worker: accept: %s\n", tlsbroker_strerror(result));
      continue;
    }
    Client client(conn);
    if (ServeConnection(client, root)) {
      tlsbroker_close(conn, -1);
    } else {
      tlsbroker_abort(conn);
    }
  }
}

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
  // SIGTERM: no more connections, and those at hand are finished. Blocked in all threads.
  sigset_t term;
  sigemptyset(&term);
  sigaddset(&term, SIGTERM);
  sigprocmask(SIG_BLOCK, &term, nullptr);
  const int signals = signalfd(-1, &term, SFD_CLOEXEC);
  if (signals < 0) {
    std::perror("signalfd");
    return 1;
  }
  std::vector<std::thread> threads;
  for (int i = 0; i < kThreads; ++i) threads.emplace_back(Work, queue, signals, root);
  for (std::thread& thread : threads) thread.join();
  return 0;
}
