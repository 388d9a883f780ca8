// SPDX-License-Identifier: Apache-2.0
#include "broker/handshaker/server.h"

#include <fcntl.h>
#include <time.h>

#include <algorithm>
#include <asio/co_spawn.hpp>
#include <asio/use_awaitable.hpp>
#include <cstring>
#include <utility>
#include <variant>

#include "absl/strings/str_cat.h"
#include "broker/handshaker/request_server.h"
#include "broker/sandbox/handshaker_policy.h"
#include "broker/support/coroutines.h"
#include "broker/support/log.h"
#include "broker/support/report.h"
#include "broker/support/status.h"
#include "protocol/supervision.h"

namespace tlsbroker {
namespace {

constexpr std::chrono::milliseconds kDrainPoll{20};
// The time from one line about refused connections to the next.
constexpr std::chrono::seconds kRefusedPause{10};

asio::awaitable<void> Sleep(std::chrono::milliseconds time) {
  const auto executor = co_await asio::this_coro::executor;
  asio::steady_timer timer(executor, time);
  co_await timer.async_wait(asio::use_awaitable);
}

asio::awaitable<void> SleepUntil(std::chrono::steady_clock::time_point time) {
  const auto executor = co_await asio::this_coro::executor;
  asio::steady_timer timer(executor, time);
  co_await timer.async_wait(asio::use_awaitable);
}

std::chrono::nanoseconds ThreadTime() {
  timespec time{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
  return std::chrono::seconds(time.tv_sec) + std::chrono::nanoseconds(time.tv_nsec);
}

// For messages that must not be lost while the supervisor is busy with something else.
asio::awaitable<void> ReportWhenPossible(const supervision::Message& message) {
  while (!Report(message)) co_await Sleep(kDrainPoll);
}

std::string CapabilitiesLine(const KtlsCapabilities& capabilities) {
  if (!capabilities.ulp()) {
    return absl::StrCat("no kernel TLS here, connections are relayed: ",
                        capabilities.ulp_support().detail);
  }
  std::string missing;
  for (const TlsVersion version : kVersions) {
    for (const Suite suite : kSuites) {
      if (capabilities.Supports(version, suite)) continue;
      absl::StrAppend(&missing, " ", VersionName(version), "/", SuiteName(suite), "=",
                      capabilities.Reason(version, suite));
    }
  }
  return missing.empty() ? "kernel TLS for all suites" : "kernel TLS, but not for:" + missing;
}

}  // namespace

absl::StatusOr<std::unique_ptr<Server>> Server::Create(Snapshot snapshot) {
  std::unique_ptr<Server> server(new Server());
  server->library_.reset(OSSL_LIB_CTX_new());
  OSSL_LIB_CTX* library = server->library_.get();
  server->default_provider_.reset(OSSL_PROVIDER_load(library, "default"));
  if (!server->default_provider_) return OpensslStatus("default provider");
  server->keyholder_ = std::make_unique<KeyholderClient>(
      std::move(snapshot.settings.signing_requests), std::move(snapshot.settings.signing_answers),
      [] { (void)Report(supervision::Heartbeat{}); });
  ASSIGN_OR_RETURN(server->provider_, KeyholderProvider::Load(library, server->keyholder_.get()));
  SecretBytes sealing(snapshot.ticket_keys.sealing);
  Wipe(snapshot.ticket_keys.sealing.data(), snapshot.ticket_keys.sealing.size());
  server->ticket_keys_.Set(std::move(snapshot.ticket_keys));
  server->conversation_ = snapshot.conversation;

  // The probe may make the kernel load its module, for which this process still has to be root.
  KtlsCapabilities capabilities = KtlsCapabilities::Probe(library);
  if (snapshot.settings.first) log::Info(CapabilitiesLine(capabilities));
  RETURN_IF_ERROR(sandbox::ConfineHandshaker(snapshot.confinement, [&] {
    return server->Prepare(snapshot, std::move(capabilities), std::move(sealing));
  }));
  return server;
}

absl::Status Server::Prepare(Snapshot& snapshot, KtlsCapabilities capabilities,
                             SecretBytes sealing) {
  // One thread: Asio need not lock.
  io_ = std::make_unique<EventLoop>(1);
  shared_.reset(new Shared{
      *io_,
      library_.get(),
      std::chrono::milliseconds(snapshot.limits.handshake_timeout_ms),
      Admission(snapshot.limits.max_handshakes, snapshot.limits.max_handshakes_per_source),
      Admission(snapshot.limits.max_relayed, snapshot.limits.max_relayed_per_source),
      KtlsState(std::move(capabilities)),
      std::move(sealing),
      std::move(snapshot.settings.rekey_lock),
      {}});
  RETURN_IF_ERROR(LoadCertificates(snapshot));
  RETURN_IF_ERROR(LoadUpstreams(snapshot));
  RETURN_IF_ERROR(LoadService(snapshot));
  LoadListeners(snapshot);
  return absl::OkStatus();
}

absl::Status Server::LoadCertificates(const Snapshot& snapshot) {
  for (const supervision::Certificate& certificate : snapshot.certificates) {
    ASSIGN_OR_RETURN(certificates_[certificate.id],
                     LoadedCertificate::Load(library_.get(), *provider_, certificate));
    expiries_.push_back({certificate.id, certificates_[certificate.id]->not_after});
  }
  return absl::OkStatus();
}

absl::Status Server::LoadService(Snapshot& snapshot) {
  supervision::Service& source = *snapshot.service;
  std::vector<std::shared_ptr<const LoadedCertificate>> certificates;
  for (const uint16_t id : source.certificate_ids) {
    if (!certificates_.contains(id))
      return absl::InvalidArgumentError("service with unknown certificate");
    certificates.push_back(certificates_[id]);
  }
  ASSIGN_OR_RETURN(auto tls,
                   TlsContext::Create(library_.get(), source.name, snapshot.terms, certificates,
                                      shared_->ktls.capabilities(), ticket_keys_));
  service_.reset(
      new Service{source.name, std::move(snapshot.terms), std::move(tls),
                  QueueSender(io_->get_executor(), std::move(source.queue), shared_->counters),
                  AsyncFd(io_->get_executor(), std::move(source.requests)), ""});
  return AllowRequests(source);
}

absl::Status Server::LoadUpstreams(const Snapshot& snapshot) {
  for (const supervision::TrustAnchors& anchors : snapshot.trust) {
    ASSIGN_OR_RETURN(trust_[anchors.id],
                     LoadTrust(library_.get(), anchors.file.get(), anchors.name));
  }
  for (const supervision::Upstream& upstream : snapshot.upstreams) {
    if (!trust_.contains(upstream.trust_id) || !IsServerName(upstream.server_name)) {
      return absl::InvalidArgumentError("malformed upstream");
    }
    ExpectedServer server{.name = upstream.server_name,
                          .alpn = upstream.alpn,
                          .pins = upstream.pins,
                          .trust = trust_[upstream.trust_id].get()};
    if (upstream.certificate_id) {
      if (!certificates_.contains(*upstream.certificate_id))
        return absl::InvalidArgumentError("upstream with unknown certificate");
      server.certificate = certificates_[*upstream.certificate_id];
    }
    upstreams_[upstream.id] = {upstream.name, Upstream{upstream.id, std::move(server)}};
  }
  return absl::OkStatus();
}

absl::Status Server::AllowRequests(const supervision::Service& source) {
  Service& service = *service_;
  if (source.wrap_trust_id) {
    if (!trust_.contains(*source.wrap_trust_id)) {
      return absl::InvalidArgumentError("service with unknown trust anchors");
    }
    service.wrap_trust = trust_[*source.wrap_trust_id].get();
  }
  for (const uint16_t id : source.wrap_certificate_ids) {
    if (!certificates_.contains(id))
      return absl::InvalidArgumentError("service with unknown client certificate");
    service.wrap_certificates[certificates_[id]->config_name] = certificates_[id];
  }
  for (const uint16_t id : source.upstream_ids) {
    if (!upstreams_.contains(id)) {
      return absl::InvalidArgumentError("service with unknown upstream");
    }
    service.upstreams.insert(upstreams_[id]);
  }
  if (service.wrap_trust == nullptr && service.upstreams.empty()) return absl::OkStatus();
  ASSIGN_OR_RETURN(service.client,
                   ClientContext::Create(library_.get(), service.name, service.terms.ktls,
                                         shared_->ktls.capabilities()));
  return absl::OkStatus();
}

void Server::LoadListeners(Snapshot& snapshot) {
  for (supervision::Listener& listener : snapshot.listeners) {
    acceptors_.push_back(
        std::make_unique<Acceptor>(*shared_, Listener{*service_}, std::move(listener.socket)));
  }
}

void Server::SetLimits(const supervision::Limits& limits) {
  shared_->handshakes.SetLimits(limits.max_handshakes, limits.max_handshakes_per_source);
  shared_->relayed.SetLimits(limits.max_relayed, limits.max_relayed_per_source);
  shared_->handshake_timeout = std::chrono::milliseconds(limits.handshake_timeout_ms);
}

void Server::Run(UniqueFd control) {
  control_ = std::make_unique<AsyncFd>(io_->get_executor(), std::move(control));
  shared_->connector.Use(Report<supervision::Connect>);
  asio::co_spawn(*io_, FollowSupervisor(), EndsProcess());
  asio::co_spawn(*io_, WatchKeyholder(), EndsProcess());
  beat_used_ = ThreadTime();
  beat_due_ = std::chrono::steady_clock::now() + supervision::kHeartbeatPeriod;
  asio::co_spawn(*io_, Beat(), EndsProcess());
  ReportFacts();
  if (!ReportSurely(supervision::Ready{}).ok()) return;
  Turn();
}

void Server::ReportFacts() const {
  supervision::Facts facts;
  const KtlsCapabilities& capabilities = shared_->ktls.capabilities();
  for (const TlsVersion version : kVersions) {
    for (const Suite suite : kSuites) {
      facts.kernel_suites.push_back({absl::StrCat(VersionName(version), " ", SuiteName(suite)),
                                     capabilities.Reason(version, suite)});
    }
  }
  for (const auto& expiry : expiries_) {
    facts.expiries.push_back(expiry);
    if (facts.expiries.size() < supervision::Facts::kMaxExpiries) continue;
    (void)ReportSurely(std::exchange(facts, {}));
  }
  (void)ReportSurely(facts);
}

void Server::StartAccepting() {
  if (std::exchange(accepting_, true)) return;
  asio::co_spawn(*io_, AnswerRequests(*shared_, *service_, service_->requests), EndsProcess());
  for (const auto& acceptor : acceptors_) {
    asio::co_spawn(*io_, acceptor->Run(), EndsProcess());
  }
}

void Server::StopAccepting() {
  for (const auto& acceptor : acceptors_) acceptor->Stop();
}

asio::awaitable<void> Server::FollowSupervisor() {
  for (;;) {
    auto message = co_await NextMessage(*control_, conversation_);
    if (!message) break;
    if (auto* keys = std::get_if<supervision::TicketKeys>(&*message)) {
      Wipe(keys->sealing.data(), keys->sealing.size());  // it never changes
      ticket_keys_.Set(std::move(*keys));
    } else if (std::holds_alternative<supervision::Accept>(*message)) {
      StartAccepting();
    } else if (const auto* limits = std::get_if<supervision::Limits>(&*message)) {
      SetLimits(*limits);
    } else if (auto* connected = std::get_if<supervision::Connected>(&*message)) {
      shared_->connector.OnConnected(std::move(*connected));
    } else if (const auto* drain = std::get_if<supervision::Drain>(&*message)) {
      asio::co_spawn(*io_, Drain(std::chrono::milliseconds(drain->deadline_ms)), EndsProcess());
    }
  }
  // Without a supervisor nobody would replace the certificates, so this process ends, and the
  // relayed connections end with it.
  io_->stop();
}

// Without a keyholder a handshake can only fail. It is better for the clients to wait in the
// backlog until the next generation takes over.
asio::awaitable<void> Server::WatchKeyholder() {
  if (keyholder_->broken()) co_return;  // while the certificates were loaded; Beat() says so
  AsyncFd watched(io_->get_executor(), UniqueFd(fcntl(keyholder_->fd(), F_DUPFD_CLOEXEC, 0)));
  const bool gone = co_await watched.WaitHangup();
  if (!gone) co_return;
  LoseKeyholder("the keyholder has ended; accepting no more connections");
}

// Perhaps only this handshaker has lost the keyholder and the supervisor has not noticed, so it is
// told.
void Server::LoseKeyholder(absl::string_view why) {
  if (std::exchange(lost_keyholder_, true)) return;
  log::Warning(std::string(why));
  StopAccepting();
  SayThatItIsLost();
}

void Server::SayThatItIsLost() {
  if (!lost_keyholder_ || loss_is_said_) return;
  loss_is_said_ = Report(supervision::Failed{.text = "lost its channel to the keyholder"});
}

// Tells the supervisor that this loop turns, and how busy it is.
void Server::SayBeat() {
  const auto now = std::chrono::steady_clock::now();
  const auto lag = std::chrono::duration_cast<std::chrono::milliseconds>(now - beat_due_);
  const auto used = ThreadTime();
  const auto spent = used - std::exchange(beat_used_, used);
  const auto period = supervision::kHeartbeatPeriod + lag;
  (void)Report(supervision::Heartbeat{static_cast<uint32_t>(lag.count()),
                                      static_cast<uint32_t>(spent * 1000 / period)});
  beat_due_ =
      std::max(beat_due_, now - supervision::kHeartbeatPeriod) + supervision::kHeartbeatPeriod;
}

// The loop looks at its timers only when everything that is ready has run: a hundred handshakes,
// which take a second or more on a slow machine. So heartbeats are sent between handlers, too. If
// one handler does not return, this process hangs.
void Server::Turn() {
  while (io_->run_one() != 0) {
    if (std::chrono::steady_clock::now() >= beat_due_ + supervision::kHeartbeatPeriod / 2)
      SayBeat();
  }
}

// Logged at most once in kRefusedPause: a client may run into a limit a thousand times a second.
void Server::SayRefused() {
  if (std::chrono::steady_clock::now() < next_refused_) return;
  const supervision::Counters& now = shared_->counters;
  const auto more = [&](std::string_view name, uint64_t supervision::Counters::*count) {
    const uint64_t number = now.*count - said_.*count;
    return number == 0 ? "" : log::Field(name, std::to_string(number));
  };
  const std::string limits =
      more("beyond_max_handshakes", &supervision::Counters::refused_total_limit) +
      more("beyond_max_handshakes_per_source", &supervision::Counters::refused_source_limit) +
      more("beyond_max_relayed", &supervision::Counters::refused_relay_limit);
  const std::string kernel = more("count", &supervision::Counters::refused_ktls_required);
  if (limits.empty() && kernel.empty()) return;
  const std::string service = log::Field("service", service_->name);
  if (!limits.empty()) log::Warning("connections were refused by limits" + service + limits);
  if (!kernel.empty()) {
    log::Warning("connections were closed, since the kernel does not do their TLS and ktls is" +
                 (" \"require\"" + service) + kernel + log::Field("why", service_->last_refusal));
  }
  next_refused_ = std::chrono::steady_clock::now() + kRefusedPause;
  said_ = now;
}

asio::awaitable<void> Server::Beat() {
  supervision::Counters reported;
  std::string reported_reason;
  while (true) {
    co_await SleepUntil(beat_due_);
    // The keyholder answered too late, or with something that is no answer. WatchKeyholder() does
    // not notice that, since the channel was closed on this side.
    if (keyholder_->broken())
      LoseKeyholder("the keyholder gave no usable answer in time; accepting no more connections");
    SayThatItIsLost();
    if (std::chrono::steady_clock::now() >= beat_due_) SayBeat();
    if (reported_reason != service_->last_reason &&
        Report(supervision::LastReason{service_->last_reason})) {
      reported_reason = service_->last_reason;
    }
    SayRefused();
    supervision::Counters& counters = shared_->counters;
    counters.handshakes_active = shared_->handshakes.active();
    counters.sign_failed = keyholder_->failures();
    if (std::memcmp(&counters, &reported, sizeof(counters)) == 0) continue;
    if (Report(counters)) reported = counters;
  }
}

asio::awaitable<void> Server::Drain(std::chrono::milliseconds limit) {
  StopAccepting();
  // The next generation answers the requests, with the configuration that is in force.
  service_->requests.Cancel();
  const supervision::Message draining = supervision::Draining{};
  co_await ReportWhenPossible(draining);
  const auto end = limit == std::chrono::milliseconds(supervision::Drain::kNever)
                       ? std::chrono::steady_clock::time_point::max()
                       : std::chrono::steady_clock::now() + limit;
  do {  // sleep first: what was posted before gets its turn
    co_await Sleep(kDrainPoll);
  } while (shared_->connections_active > 0 && std::chrono::steady_clock::now() < end);
  const supervision::Message counters = shared_->counters;
  co_await ReportWhenPossible(counters);
  const supervision::Message drained = supervision::Drained{};
  co_await ReportWhenPossible(drained);
  io_->stop();
}

}  // namespace tlsbroker
