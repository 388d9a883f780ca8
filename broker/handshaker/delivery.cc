// SPDX-License-Identifier: Apache-2.0
#include "broker/handshaker/delivery.h"

#include <fcntl.h>
#include <sys/socket.h>

#include <memory>
#include <optional>
#include <utility>
#include <vector>

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

// In the order in which they are called.
KtlsSocket::Outcome InstallKeys(Shared& shared, const Handshaken& handshake, UniqueFd socket,
                                bool of_worker);
std::vector<uint8_t> TokenFor(const Shared& shared, const Handshaken& handshake, int socket);
UniqueFd Blocking(UniqueFd socket);
bool MayRelay(Shared& shared, Service& service, const handoff::Description& description,
              Admission::Place& place);
asio::awaitable<void> HandOffRelayed(Shared& shared, Service& service,
                                     const handoff::Description& description, AsyncFd peer,
                                     SslPtr ssl, Sealer sealer, Admission::Place place,
                                     Recipient& recipient);
void Log(const handoff::Description& description, Clock::time_point started);

}  // namespace

asio::awaitable<Delivery> Deliver(Shared& shared, Service& service, TcpConnection connection,
                                  Handshaken handshake, Recipient& recipient,
                                  Clock::time_point started) {
  handoff::Description description = Describe(service.name, connection, handshake.ssl());
  ++(description.resumed ? shared.counters.handshakes_resumed : shared.counters.handshakes_full);

  description.reason =
      WhyNotKtls(shared, service, connection, handshake.version(), handshake.suite());
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
      if (handed_off) ++shared.counters.handed_off_direct;
      co_return Delivery::kOver;
    }
    description.reason = "install-failed";
    if (outcome.result == InstallResult::kTxOnly) sealer = Sealer::kKernel;
    connection.socket = AsyncFd(shared.io.get_executor(), std::move(outcome.refused));
  }
  Admission::Place place;
  if (!MayRelay(shared, service, description, place)) co_return Delivery::kNotPossible;
  description.mode = handoff::Mode::kRelay;
  Log(description, started);
  SslPtr ssl = handshake.TakeSsl();
  co_await HandOffRelayed(shared, service, description, std::move(connection.socket),
                          std::move(ssl), sealer, std::move(place), recipient);
  co_return Delivery::kOver;
}

namespace {

// Installs both keys in the kernel. If that fails on a worker's own socket, it may be the worker's
// doing, so other connections go on using kernel TLS.
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
                   ": the keys of a connection did not get into the kernel; later ones of this"
                   " kind do without kernel TLS: ",
                   outcome.status.message()));
  return outcome;
}

// The token with which the worker asks for the next keys; empty where the keys cannot be changed.
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

// PROTOCOL.md section 3 promises workers a blocking socket. Nobody shares the socket yet, so nobody
// else is affected by the flag.
UniqueFd Blocking(UniqueFd socket) {
  const int flags = fcntl(socket.get(), F_GETFL);
  (void)fcntl(socket.get(), F_SETFL, flags & ~O_NONBLOCK);
  return socket;
}

// Whether a connection without kernel TLS may be relayed: only where the service allows it, and
// only up to a limit. `place` counts the connection against that limit.
bool MayRelay(Shared& shared, Service& service, const handoff::Description& description,
              Admission::Place& place) {
  if (service.terms.ktls == supervision::KtlsMode::kRequire) {
    ++shared.counters.refused_ktls_required;
    service.last_refusal = description.reason;
    return false;
  }
  const auto verdict = shared.relayed.Admit(description.peer, place);
  if (verdict != Admission::Verdict::kAdmitted) ++shared.counters.refused_relay_limit;
  return verdict == Admission::Verdict::kAdmitted;
}

asio::awaitable<void> HandOffRelayed(Shared& shared, Service& service,
                                     const handoff::Description& description, AsyncFd peer,
                                     SslPtr ssl, Sealer sealer, Admission::Place place,
                                     Recipient& recipient) {
  int pair[2];
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0) {
    log::Error(std::string(ErrnoStatus("socketpair").message()));
    co_return;
  }
  UniqueFd theirs(pair[1]);
  const auto relay = std::make_shared<Relay>(shared, std::move(peer), std::move(ssl), sealer,
                                             AsyncFd(shared.io.get_executor(), UniqueFd(pair[0])),
                                             std::move(place));
  const bool handed_off = co_await recipient.HandOff(description, std::move(theirs));
  if (!handed_off) co_return;
  ++shared.counters.handed_off_relay;
  service.last_reason = description.reason;
  relay->Start();
}

void Log(const handoff::Description& description, Clock::time_point started) {
  if (log::level() < log::Level::kInfo) return;
  log::Info(LogLine(description, Clock::now() - started));
}

}  // namespace
}  // namespace tlsbroker
