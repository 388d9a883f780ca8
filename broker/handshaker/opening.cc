// SPDX-License-Identifier: Apache-2.0
#include "broker/handshaker/opening.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <algorithm>
#include <asio/co_spawn.hpp>
#include <bit>
#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "broker/handshaker/delivery.h"
#include "broker/handshaker/endpoint.h"
#include "broker/handshaker/farewell.h"
#include "broker/handshaker/handshake.h"
#include "broker/handshaker/tcp_connection.h"
#include "broker/support/coroutines.h"
#include "broker/support/log.h"
#include "protocol/channel.h"

namespace tlsbroker {
namespace {

using request::Result;
using Clock = std::chrono::steady_clock;

const char* ResultName(Result result) {
  switch (result) {
    case Result::kDone:
      return "done";
    case Result::kBusy:
      return "busy";
    case Result::kNotAllowed:
      return "not-allowed";
    case Result::kBadSocket:
      return "bad-socket";
    case Result::kNotConnected:
      return "not-connected";
    case Result::kTimeout:
      return "timeout";
    case Result::kPeerGone:
      return "peer-gone";
    case Result::kHandshake:
      return "handshake";
    case Result::kWrongName:
      return "wrong-name";
    case Result::kExpired:
      return "expired";
    case Result::kSelfSigned:
      return "self-signed";
    case Result::kUnknownCa:
      return "unknown-ca";
    case Result::kPin:
      return "pin";
    case Result::kCertificate:
      return "certificate";
    case Result::kNoKtls:
      return "no-ktls";
    case Result::kFailed:
      break;
  }
  return "failed";
}

// Answers a worker once. If the worker is gone, nobody is told.
class Answer : public Recipient {
 public:
  Answer(Shared& shared, const Service& service, std::string what, UniqueFd socket)
      : shared_(&shared), service_(&service), what_(std::move(what)), socket_(std::move(socket)) {}
  Answer(Answer&&) = default;
  Answer& operator=(Answer&&) = delete;
  ~Answer() override {
    if (socket_) Refuse(Result::kFailed, "");
  }

  asio::awaitable<bool> HandOff(const handoff::Description& description, UniqueFd fd) override {
    const request::Opened opened{Result::kDone, "", handoff::Encode(description)};
    const int fds[] = {fd.get()};
    if (opened.description.empty()) co_return false;
    const UniqueFd socket = std::move(socket_);
    const bool sent = channel::Send(socket.get(), request::Encode(opened), fds,
                                    /*dont_wait=*/true) == channel::Result::kOk;
    ++(sent ? shared_->counters.opened : shared_->counters.open_failed);
    co_return sent;
  }

  void Refuse(Result result, const std::string& detail) {
    const UniqueFd socket = std::move(socket_);
    (void)channel::Send(socket.get(), request::Encode(request::Opened{result, detail, {}}), {},
                        /*dont_wait=*/true);
    // Only the 1st, 2nd, 4th, 8th... are logged, since a worker can ask as often as it likes.
    if (!std::has_single_bit(++shared_->counters.open_failed)) return;
    log::Warning(absl::StrCat("no connection for a worker", log::Field("service", service_->name),
                              log::Field("what", what_), log::Field("why", ResultName(result)),
                              log::Field("detail", detail),
                              log::Field("count", absl::StrCat(shared_->counters.open_failed))));
  }

 private:
  Shared* shared_;
  const Service* service_;
  std::string what_;
  UniqueFd socket_;
};

// Counts as one of kMaxOpening.
class Slot {
 public:
  explicit Slot(Service& service) : service_(&service) { ++service_->opening; }
  Slot(Slot&& other) noexcept : service_(std::exchange(other.service_, nullptr)) {}
  Slot& operator=(Slot&&) = delete;
  ~Slot() { Release(); }
  void Release() {
    if (Service* service = std::exchange(service_, nullptr)) --service->opening;
  }

 private:
  Service* service_;
};

struct Task {
  Slot slot;
  Answer answer;
  std::optional<ExpectedServer> expected;  // none: we are the server
  Clock::time_point started = Clock::now();
  Clock::time_point until;
};

// Where the socket comes from.
enum class Origin { kWorker, kUpstream };

std::optional<TcpConnection> Take(const Shared& shared, UniqueFd socket, Origin origin) {
  sockaddr_storage peer{};
  sockaddr_storage local{};
  socklen_t size = sizeof(peer);
  if (getpeername(socket.get(), reinterpret_cast<sockaddr*>(&peer), &size) != 0) return {};
  size = sizeof(local);
  if (getsockname(socket.get(), reinterpret_cast<sockaddr*>(&local), &size) != 0) return {};
  return TcpConnection{.socket = AsyncFd(shared.io.get_executor(), std::move(socket)),
                       .peer = ToEndpoint(peer),
                       .local = ToEndpoint(local),
                       .place = {},
                       .of_worker = origin == Origin::kWorker,
                       .ulp_reason = ""};
}

Result ResultOf(const HandshakeResult& failed) {
  switch (failed.failure) {
    case HandshakeFailure::kTimeout:
    case HandshakeFailure::kSilence:
      return Result::kTimeout;
    case HandshakeFailure::kPeerGone:
    case HandshakeFailure::kNothingSent:
    case HandshakeFailure::kNoTls:
      return Result::kPeerGone;
    case HandshakeFailure::kTls:
      return failed.refusal;
    case HandshakeFailure::kLeftOver:
    case HandshakeFailure::kOutOfMemory:
      break;
  }
  return Result::kFailed;
}

asio::awaitable<HandshakeResult> HandshakeFor(const Shared& shared, const Service& service,
                                              TcpConnection& connection, const Task& task) {
  const auto left =
      std::max(std::chrono::ceil<std::chrono::milliseconds>(task.until - Clock::now()),
               std::chrono::milliseconds(1));
  HandshakeResult result;
  if (task.expected) {
    result = co_await Handshake(connection, *service.client, *task.expected, left);
  } else {
    result = co_await Handshake(shared, service, connection, left);
  }
  co_return result;
}

asio::awaitable<void> Open(Shared& shared, Service& service, Task task, UniqueFd socket,
                           Origin origin) {
  const ActiveConnection active(shared);
  // A worker still has its socket, which shares these flags.
  const int flags = fcntl(socket.get(), F_GETFL);
  auto connection = Take(shared, std::move(socket), origin);
  if (!connection) {
    task.answer.Refuse(Result::kBadSocket, std::strerror(errno));
    co_return;
  }
  Prepare(shared, service, *connection);
  HandshakeResult result = co_await HandshakeFor(shared, service, *connection, task);
  if (!result.done) {
    Count(shared, result.failure);
    (void)fcntl(connection->socket.get(), F_SETFL, flags);
    task.answer.Refuse(ResultOf(result), result.detail);
    // A worker's own socket stays the worker's.
    const bool last_words = origin == Origin::kUpstream && SentAlert(result.failure);
    if (last_words) co_await Farewell(connection->socket);
    co_return;
  }
  task.slot.Release();
  Handshaken handshake = *std::exchange(result.done, std::nullopt);
  const Delivery delivery = co_await Deliver(shared, service, *std::move(connection),
                                             std::move(handshake), task.answer, task.started);
  if (delivery == Delivery::kNotPossible) task.answer.Refuse(Result::kNoKtls, "");
}

asio::awaitable<void> Dial(Shared& shared, Service& service, Task task, uint16_t upstream_id) {
  const ActiveConnection active(shared);
  Connector::Outcome outcome = co_await shared.connector.Connect(upstream_id, task.until);
  if (outcome.error != 0) {
    const bool late = outcome.error == ETIMEDOUT;
    task.answer.Refuse(late ? Result::kTimeout : Result::kNotConnected,
                       std::strerror(outcome.error));
    co_return;
  }
  co_await Open(shared, service, std::move(task), std::move(outcome.socket), Origin::kUpstream);
}

Task MakeTask(Shared& shared, Service& service, std::string what, UniqueFd answer,
              std::optional<ExpectedServer> expected) {
  const auto now = Clock::now();
  return Task{Slot(service), Answer(shared, service, std::move(what), std::move(answer)),
              std::move(expected), now, now + shared.handshake_timeout};
}

}  // namespace

bool CanBeWrapped(int socket) {
  const auto option = [socket](int name) {
    int value = -1;
    socklen_t size = sizeof(value);
    return getsockopt(socket, SOL_SOCKET, name, &value, &size) == 0 ? value : -1;
  };
  const int domain = option(SO_DOMAIN);
  sockaddr_storage peer{};
  socklen_t size = sizeof(peer);
  return (domain == AF_INET || domain == AF_INET6) && option(SO_PROTOCOL) == IPPROTO_TCP &&
         getpeername(socket, reinterpret_cast<sockaddr*>(&peer), &size) == 0;
}

void RefuseToOpen(Shared& shared, const Service& service, UniqueFd answer, Result result) {
  Answer(shared, service, "wrap", std::move(answer)).Refuse(result, "");
}

void StartWrap(Shared& shared, Service& service, request::Wrap wrap, UniqueFd answer,
               UniqueFd socket) {
  const bool client = wrap.role == request::Role::kClient;
  const auto refuse = [&](Result result) {
    Answer(shared, service, "wrap", std::move(answer)).Refuse(result, "");
  };
  if (client ? !service.client || !service.wrap_trust : !service.terms.wrap_server) {
    return refuse(Result::kNotAllowed);
  }
  if (client && !IsServerName(wrap.name)) return refuse(Result::kWrongName);
  if (service.opening >= kMaxOpening) return refuse(Result::kBusy);
  std::optional<ExpectedServer> expected;
  if (client) {
    expected = ExpectedServer{.name = std::move(wrap.name),
                              .alpn = std::move(wrap.alpn),
                              .pins = {},
                              .trust = service.wrap_trust};
    if (!wrap.certificate.empty()) {
      const auto certificate = service.wrap_certificates.find(wrap.certificate);
      if (certificate == service.wrap_certificates.end()) return refuse(Result::kNotAllowed);
      expected->certificate = certificate->second;
    }
  }
  asio::co_spawn(shared.io,
                 Open(shared, service,
                      MakeTask(shared, service, client ? "wrap-client" : "wrap-server",
                               std::move(answer), std::move(expected)),
                      std::move(socket), Origin::kWorker),
                 EndsConnection());
}

void StartDial(Shared& shared, Service& service, const request::Dial& dial, UniqueFd answer) {
  const std::string what = "dial-" + dial.upstream;
  const auto refuse = [&](Result result) {
    Answer(shared, service, what, std::move(answer)).Refuse(result, "");
  };
  const auto upstream = service.upstreams.find(dial.upstream);
  if (!service.client || upstream == service.upstreams.end()) return refuse(Result::kNotAllowed);
  if (service.opening >= kMaxOpening) return refuse(Result::kBusy);
  asio::co_spawn(shared.io,
                 Dial(shared, service,
                      MakeTask(shared, service, what, std::move(answer), upstream->second.server),
                      upstream->second.id),
                 EndsConnection());
}

}  // namespace tlsbroker
