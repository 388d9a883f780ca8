#include "broker/handshaker/server.h"

#include <fcntl.h>

#include <algorithm>
#include <asio/co_spawn.hpp>
#include <asio/detached.hpp>
#include <asio/use_awaitable.hpp>
#include <cstring>
#include <utility>
#include <variant>

#include "absl/strings/str_cat.h"
#include "broker/handshaker/request_server.h"
#include "broker/sandbox/handshaker_policy.h"
#include "broker/support/log.h"
#include "broker/support/status.h"

namespace tlsbroker {
namespace {

constexpr std::chrono::milliseconds kCountersInterval{500};
constexpr std::chrono::milliseconds kDrainPoll{20};

asio::awaitable<void> Sleep(std::chrono::milliseconds time) {
  asio::steady_timer timer(co_await asio::this_coro::executor, time);
  co_await timer.async_wait(asio::use_awaitable);
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
  const supervision::Settings& settings = snapshot.settings;
  server->keyholder_ =
      std::make_unique<KeyholderClient>(std::move(snapshot.settings.signing_channel));
  ASSIGN_OR_RETURN(server->provider_, KeyholderProvider::Load(library, server->keyholder_.get()));
  SecretBytes sealing(snapshot.ticket_keys.sealing);
  Wipe(snapshot.ticket_keys.sealing.data(), snapshot.ticket_keys.sealing.size());
  server->ticket_keys_.Set(std::move(snapshot.ticket_keys));

  // One thread: Asio need not lock.
  server->io_ = std::make_unique<EventLoop>(1);
  KtlsCapabilities capabilities = KtlsCapabilities::Probe(library);
  if (settings.index == 0) log::Info(CapabilitiesLine(capabilities));
  server->shared_.reset(
      new Shared{*server->io_,
                 library,
                 std::chrono::milliseconds(settings.handshake_timeout_ms),
                 settings.max_relayed,
                 Admission(settings.max_handshakes, settings.max_handshakes_per_source),
                 KtlsState(std::move(capabilities)),
                 std::move(sealing),
                 std::move(snapshot.settings.rekey_lock),
                 {}});
  RETURN_IF_ERROR(server->LoadCertificates(snapshot));
  RETURN_IF_ERROR(server->LoadUpstreams(snapshot));
  RETURN_IF_ERROR(server->LoadServices(snapshot));
  RETURN_IF_ERROR(server->LoadListeners(snapshot));
  RETURN_IF_ERROR(sandbox::ConfineHandshaker(snapshot.confinement));
  return server;
}

absl::Status Server::LoadCertificates(const Snapshot& snapshot) {
  for (const supervision::Certificate& certificate : snapshot.certificates) {
    ASSIGN_OR_RETURN(certificates_[certificate.id],
                     LoadedCertificate::Load(library_.get(), *provider_, certificate));
    expiries_.push_back({certificate.id, certificates_[certificate.id]->not_after});
  }
  return absl::OkStatus();
}

absl::Status Server::LoadServices(Snapshot& snapshot) {
  for (supervision::Service& service : snapshot.services) {
    std::vector<std::shared_ptr<const LoadedCertificate>> certificates;
    for (const uint16_t id : service.certificate_ids) {
      if (!certificates_.contains(id))
        return absl::InvalidArgumentError("service with unknown certificate");
      certificates.push_back(certificates_[id]);
    }
    ASSIGN_OR_RETURN(auto tls, TlsContext::Create(library_.get(), service, std::move(certificates),
                                                  shared_->ktls.capabilities(), ticket_keys_));
    services_[service.id].reset(
        new Service{service.name,
                    service.ktls,
                    service.rekey,
                    std::move(tls),
                    Queue(io_->get_executor(), std::move(service.queue), shared_->counters),
                    AsyncFd(io_->get_executor(), std::move(service.requests)),
                    {.service_id = service.id}});
    RETURN_IF_ERROR(AllowRequests(service, *services_[service.id]));
  }
  return absl::OkStatus();
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
                          .pins = {},
                          .trust = trust_[upstream.trust_id].get()};
    for (const auto& pin : upstream.pins)
      std::ranges::copy(pin, server.pins.emplace_back().begin());
    if (upstream.certificate_id) {
      if (!certificates_.contains(*upstream.certificate_id))
        return absl::InvalidArgumentError("upstream with unknown certificate");
      server.certificate = certificates_[*upstream.certificate_id];
    }
    upstreams_[upstream.id] = {upstream.name, Upstream{upstream.id, std::move(server)}};
  }
  return absl::OkStatus();
}

absl::Status Server::AllowRequests(const supervision::Service& source, Service& service) {
  service.wrap_server = source.wrap_server;
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
  ASSIGN_OR_RETURN(service.client, ClientContext::Create(library_.get(), service.name, service.ktls,
                                                         shared_->ktls.capabilities()));
  return absl::OkStatus();
}

absl::Status Server::LoadListeners(Snapshot& snapshot) {
  for (supervision::Listener& listener : snapshot.listeners) {
    const auto service = services_.find(listener.service_id);
    if (service == services_.end()) return absl::InvalidArgumentError("listener without a service");
    acceptors_.push_back(
        std::make_unique<Acceptor>(*shared_, *service->second, std::move(listener.socket)));
  }
  return absl::OkStatus();
}

void Server::Run(UniqueFd control) {
  control_ = std::make_unique<AsyncFd>(io_->get_executor(), std::move(control));
  shared_->connector.Use(
      [this](const supervision::Message& message) { return Report(control_->get(), message); });
  asio::co_spawn(*io_, FollowSupervisor(), asio::detached);
  asio::co_spawn(*io_, WatchKeyholder(), asio::detached);
  asio::co_spawn(*io_, ReportCounters(), asio::detached);
  ReportFacts();
  Report(control_->get(), supervision::Ready{});
  io_->run();
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
    Report(control_->get(), std::exchange(facts, {}));
  }
  Report(control_->get(), facts);
}

void Server::StartAccepting() {
  if (std::exchange(accepting_, true)) return;
  for (const auto& [id, service] : services_) {
    asio::co_spawn(*io_, AnswerRequests(*shared_, *service, service->requests), asio::detached);
  }
  for (const auto& acceptor : acceptors_) {
    asio::co_spawn(*io_, acceptor->Run(), asio::detached);
  }
}

void Server::StopAccepting() {
  for (const auto& acceptor : acceptors_) acceptor->Stop();
}

asio::awaitable<void> Server::FollowSupervisor() {
  while (auto message = co_await NextMessage(*control_)) {
    if (auto* keys = std::get_if<supervision::TicketKeys>(&*message)) {
      Wipe(keys->sealing.data(), keys->sealing.size());  // it never changes
      ticket_keys_.Set(std::move(*keys));
    } else if (std::holds_alternative<supervision::Accept>(*message)) {
      StartAccepting();
    } else if (auto* connected = std::get_if<supervision::Connected>(&*message)) {
      shared_->connector.OnConnected(std::move(*connected));
    } else if (const auto* drain = std::get_if<supervision::Drain>(&*message)) {
      asio::co_spawn(*io_, Drain(std::chrono::milliseconds(drain->deadline_ms)), asio::detached);
    } else {
      log::Error("unexpected message of the supervisor");
      break;
    }
  }
  // Without a supervisor nobody would replace the certificates: end, and with it what is relayed.
  io_->stop();
}

// Without a keyholder a handshake can only fail. The clients do better to wait in the backlog until
// the next generation takes over.
asio::awaitable<void> Server::WatchKeyholder() {
  AsyncFd watched(io_->get_executor(), UniqueFd(fcntl(keyholder_->fd(), F_DUPFD_CLOEXEC, 0)));
  if (!co_await watched.WaitHangup()) co_return;
  // Perhaps for this handshaker alone, so the supervisor need not have noticed.
  log::Warning("the keyholder is gone; accepting no more");
  StopAccepting();
  Report(control_->get(), supervision::Failed{.text = "lost its channel to the keyholder"});
}

asio::awaitable<void> Server::ReportCounters() {
  supervision::Counters reported;
  while (true) {
    co_await Sleep(kCountersInterval);
    for (const auto& [id, service] : services_) {
      if (!service->counters_changed) continue;
      service->counters_changed = !Report(control_->get(), service->counters);
    }
    supervision::Counters& now = shared_->counters;
    now.handshakes_active = shared_->admission.active();
    if (std::memcmp(&now, &reported, sizeof(now)) == 0) continue;
    if (Report(control_->get(), now)) reported = now;
  }
}

asio::awaitable<void> Server::Drain(std::chrono::milliseconds limit) {
  StopAccepting();
  // The next generation answers them, by the configuration that is in force.
  for (const auto& [id, service] : services_) service->requests.Cancel();
  Report(control_->get(), supervision::Draining{});
  const auto end = std::chrono::steady_clock::now() + limit;
  do {  // at first for what has been accepted, and whose coroutine has not begun
    co_await Sleep(kDrainPoll);
  } while (shared_->connections_active > 0 && std::chrono::steady_clock::now() < end);
  Report(control_->get(), shared_->counters);
  Report(control_->get(), supervision::Drained{});
  io_->stop();
}

}  // namespace tlsbroker
