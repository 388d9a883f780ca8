#include "broker/handshaker/connection.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <asio/this_coro.hpp>
#include <utility>

#include "absl/strings/str_cat.h"
#include "broker/handshaker/description.h"
#include "broker/handshaker/ktls_socket.h"
#include "broker/handshaker/rekey.h"
#include "broker/handshaker/rekey_token.h"
#include "broker/handshaker/relay.h"
#include "broker/support/log.h"
#include "broker/support/status.h"

namespace tlsbroker {
namespace {

using Clock = std::chrono::steady_clock;

void CountFailure(Shared& shared, const Accepted& connection, const HandshakeResult& result) {
  ++(result.failure == HandshakeFailure::kTimeout ? shared.counters.handshakes_timed_out
                                                  : shared.counters.handshakes_failed);
  if (log::level() < log::Level::kDebug) return;
  log::Debug(absl::StrCat("handshake failed", log::Field("peer", connection.peer.ToString()),
                          log::Field("why", HandshakeFailureName(result.failure)),
                          log::Field("detail", result.detail)));
}

// Why this connection will not be handed over as a kernel TLS socket; empty if it may.
std::string WhyNotKtls(const Shared& shared, const Service& service, const Accepted& connection,
                       const Handshaken& handshake) {
  if (service.ktls == supervision::KtlsMode::kNever) return "ktls-never";
  if (!connection.has_ulp) return connection.ulp_reason;
  const std::optional<Suite> suite = handshake.suite();
  if (!suite) return "suite-unknown";
  if (!shared.ktls.Usable(handshake.version(), *suite)) {
    return shared.ktls.Reason(handshake.version(), *suite);
  }
  const bool may_rekey = handshake.version() == TlsVersion::kTls13;
  if (may_rekey && service.rekey == supervision::RekeyMode::kRequire && !shared.ktls.CanRekey()) {
    return "kernel-no-rekey";
  }
  return "";
}

// What the worker needs to have the keys followed by the next ones; empty where that cannot be.
std::vector<uint8_t> TokenFor(const Shared& shared, const Handshaken& handshake, int socket) {
  const Tls13Secrets* secrets = handshake.tls13_secrets();
  const auto cookie = CookieOf(socket);
  if (secrets == nullptr || !cookie || !shared.ktls.CanRekey()) return {};
  TokenContent content{.cookie = *cookie,
                       .suite = *handshake.suite(),
                       .we_are_server = handshake.we_are_server(),
                       .secrets = {}};
  content.secrets.client = SecretBytes(secrets->client.bytes());
  content.secrets.server = SecretBytes(secrets->server.bytes());
  auto token = SealToken(shared.library, shared.sealing, content);
  if (token.ok()) return *std::move(token);
  log::Error("no rekey token: " + std::string(token.status().message()));
  return {};
}

// Both keys into the kernel. What goes wrong with a worker's own socket may be the worker's doing,
// and is no reason to do without kernel TLS elsewhere.
KtlsSocket::Outcome InstallKeys(Shared& shared, const Handshaken& handshake, UniqueFd socket,
                                bool of_worker) {
  auto keys = handshake.DeriveKeys(shared.library);
  KtlsSocket::Outcome outcome{InstallResult::kNothingInstalled, keys.status(), {}, {}};
  if (!keys.ok()) {
    outcome.refused = std::move(socket);
  } else {
    outcome = KtlsSocket::Install(std::move(socket), *keys);
  }
  if (outcome.result == InstallResult::kOk) return outcome;
  ++shared.counters.ktls_install_failed;
  if (of_worker) return outcome;
  shared.ktls.MarkFailed(handshake.version(), *handshake.suite());
  log::Error(
      absl::StrCat(VersionName(handshake.version()), " ", SuiteName(*handshake.suite()),
                   ": the kernel refused the keys of a connection; later ones of this kind do"
                   " without kernel TLS: ",
                   outcome.status.message()));
  return outcome;
}

asio::awaitable<void> HandOffRelayed(Shared& shared, Service& service,
                                     const handoff::Description& description, AsyncFd client,
                                     SslPtr ssl, Sealer sealer, Recipient& recipient) {
  int pair[2];
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0) {
    log::Error(std::string(ErrnoStatus("socketpair").message()));
    co_return;
  }
  UniqueFd theirs(pair[1]);
  const auto relay = std::make_shared<Relay>(shared, std::move(client), std::move(ssl), sealer,
                                             AsyncFd(shared.io.get_executor(), UniqueFd(pair[0])));
  const bool handed_off = co_await recipient.HandOff(description, std::move(theirs));
  if (!handed_off) co_return;
  ++shared.counters.handed_off_relay;
  service.CountRelay(description.reason);
  relay->Start();
}

void Log(const handoff::Description& description, Clock::time_point started) {
  if (log::level() < log::Level::kInfo) return;
  log::Info(LogLine(description, Clock::now() - started));
}

// What PROTOCOL.md, section 3, promises to workers. Nobody shares the socket yet.
UniqueFd Blocking(UniqueFd socket) {
  const int flags = fcntl(socket.get(), F_GETFL);
  (void)fcntl(socket.get(), F_SETFL, flags & ~O_NONBLOCK);
  return socket;
}

// Without kernel TLS: only where the service allows it, and only so many.
bool MayRelay(Shared& shared, const Service& service) {
  if (service.ktls == supervision::KtlsMode::kRequire) {
    ++shared.counters.refused_ktls_required;
    return false;
  }
  if (shared.counters.relay_active >= shared.max_relayed) {
    ++shared.counters.refused_relay_limit;
    return false;
  }
  return true;
}

}  // namespace

asio::awaitable<void> ServeConnection(Shared& shared, Service& service, Accepted connection) {
  const ActiveConnection active(shared);
  const Clock::time_point started = Clock::now();
  HandshakeResult result = co_await Handshake(connection, *service.tls, shared.handshake_timeout);
  if (!result.done) {
    CountFailure(shared, connection, result);
    co_return;
  }
  connection.ticket.Release();
  Handshaken handshake = *std::exchange(result.done, std::nullopt);
  co_await Deliver(shared, service, std::move(connection), std::move(handshake), service.queue,
                   started);
}

void Prepare(const Shared& shared, const Service& service, Accepted& connection) {
  // Session tickets and the worker's first answer are two small writes: without this, Nagle's
  // algorithm holds the answer back until the client acknowledges the tickets.
  const int on = 1;
  setsockopt(connection.socket.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
  if (service.ktls == supervision::KtlsMode::kNever) return;
  if (!shared.ktls.capabilities().ulp()) {
    connection.ulp_reason = shared.ktls.capabilities().ulp_support().reason;
    return;
  }
  connection.has_ulp = EnableUlp(connection.socket.get()).ok();
  if (!connection.has_ulp) connection.ulp_reason = "ulp-refused";
}

asio::awaitable<Delivery> Deliver(Shared& shared, Service& service, Accepted connection,
                                  Handshaken handshake, Recipient& recipient,
                                  Clock::time_point started) {
  handoff::Description description = Describe(service.name, connection, handshake.ssl());
  ++(description.resumed ? shared.counters.handshakes_resumed : shared.counters.handshakes_full);

  description.reason = WhyNotKtls(shared, service, connection, handshake);
  Sealer sealer = Sealer::kOpenssl;
  if (description.reason.empty()) {
    auto outcome =
        InstallKeys(shared, handshake, connection.socket.Release(), connection.of_worker);
    if (outcome.result == InstallResult::kInDoubt) co_return Delivery::kInDoubt;
    if (outcome.result == InstallResult::kOk) {
      description.rekey_token = TokenFor(shared, handshake, outcome.socket->get());
      { const Handshaken wiped = std::move(handshake); }
      Log(description, started);
      UniqueFd socket = Blocking(std::move(*outcome.socket).Release());
      const bool handed_off = co_await recipient.HandOff(description, std::move(socket));
      if (handed_off) {
        ++shared.counters.handed_off_direct;
        service.CountDirect();
      }
      co_return Delivery::kDone;
    }
    description.reason = "install-failed";
    if (outcome.result == InstallResult::kTxOnly) sealer = Sealer::kKernel;
    connection.socket = AsyncFd(shared.io.get_executor(), std::move(outcome.refused));
  }
  if (!MayRelay(shared, service)) co_return Delivery::kNotPossible;
  description.mode = handoff::Mode::kRelay;
  Log(description, started);
  SslPtr ssl = handshake.TakeSsl();
  co_await HandOffRelayed(shared, service, description, std::move(connection.socket),
                          std::move(ssl), sealer, recipient);
  co_return Delivery::kDone;
}

}  // namespace tlsbroker
