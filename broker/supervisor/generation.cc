#include "broker/supervisor/generation.h"

#include <signal.h>

#include <algorithm>
#include <asio/co_spawn.hpp>
#include <asio/detached.hpp>
#include <asio/post.hpp>
#include <asio/use_awaitable.hpp>
#include <cerrno>
#include <utility>

#include "broker/supervisor/upstreams.h"
#include "broker/support/log.h"
#include "broker/support/status.h"
#include "protocol/channel.h"

namespace tlsbroker::supervisor {
namespace {

// Of the supervisor's environment nothing is a child's business but how much to log.
std::vector<std::string> ChildEnvironment(log::Level log_level) {
  return {std::string(log::kLevelVariable) + "=" + std::to_string(static_cast<int>(log_level))};
}

void Add(supervision::Counters& sum, const supervision::Counters& part) {
  using supervision::Counters;
  for (uint64_t Counters::*value : {&Counters::accepted,
                                    &Counters::handshakes_full,
                                    &Counters::handshakes_resumed,
                                    &Counters::handshakes_failed,
                                    &Counters::handshakes_timed_out,
                                    &Counters::refused_total_limit,
                                    &Counters::refused_source_limit,
                                    &Counters::refused_relay_limit,
                                    &Counters::refused_ktls_required,
                                    &Counters::handed_off_direct,
                                    &Counters::handed_off_relay,
                                    &Counters::ktls_install_failed,
                                    &Counters::queue_waits,
                                    &Counters::relay_active,
                                    &Counters::handshakes_active,
                                    &Counters::sign_failed,
                                    &Counters::rekeyed,
                                    &Counters::rekey_refused,
                                    &Counters::opened,
                                    &Counters::open_failed}) {
    sum.*value += part.*value;
  }
}

std::string HandshakerName(uint32_t index) { return "handshaker[" + std::to_string(index) + "]"; }

}  // namespace

Generation::Generation(const asio::any_io_executor& executor, uint32_t number,
                       std::shared_ptr<const Setup> setup, const TicketKeyRing& ticket_keys,
                       std::function<void()> changed)
    : executor_(executor),
      number_(number),
      setup_(std::move(setup)),
      ticket_keys_(ticket_keys),
      changed_(std::move(changed)) {
  for (const UpstreamConfig& upstream : setup_->config.upstreams)
    upstreams_.push_back(upstream.address.value);
}

absl::Status Generation::Start(const Programs& programs) {
  std::vector<UniqueFd> keyholder_ends;
  std::vector<UniqueFd> handshaker_ends;
  for (uint32_t i = 0; i < setup_->handshakers; ++i) {
    auto [keyholder_end, handshaker_end] = channel::MakePair();
    if (!keyholder_end) return ErrnoStatus("socketpair");
    keyholder_ends.push_back(std::move(keyholder_end));
    handshaker_ends.push_back(std::move(handshaker_end));
  }
  ASSIGN_OR_RETURN(Snapshot keyholder, KeyholderSnapshot(*setup_, std::move(keyholder_ends)));
  RETURN_IF_ERROR(StartChild(programs.keyholder, "keyholder", true, std::move(keyholder)));
  for (uint32_t i = 0; i < setup_->handshakers; ++i) {
    ASSIGN_OR_RETURN(UniqueFd rekey_lock, ticket_keys_.OpenRekeyLock());
    ASSIGN_OR_RETURN(Snapshot handshaker,
                     HandshakerSnapshot(*setup_, number_, static_cast<uint16_t>(i),
                                        std::move(handshaker_ends[i]), std::move(rekey_lock)));
    RETURN_IF_ERROR(
        StartChild(programs.handshaker, HandshakerName(i), false, std::move(handshaker)));
  }
  return absl::OkStatus();
}

absl::Status Generation::StartChild(const std::string& program, std::string name, bool is_keyholder,
                                    Snapshot snapshot) {
  auto [ours, theirs] = channel::MakePair();
  if (!ours) return ErrnoStatus("socketpair");
  ASSIGN_OR_RETURN(Process process,
                   Spawn({.arguments = {program},
                          .environment = ChildEnvironment(setup_->config.broker.log_level),
                          .fds = {theirs.get()}}));
  log::Info("started" + log::Field("role", name) +
            log::Field("generation", std::to_string(number_)) +
            log::Field("pid", std::to_string(process.pid)));
  children_.emplace_back(new Child{
      .name = std::move(name),
      .is_keyholder = is_keyholder,
      .process = std::make_shared<ChildProcess>(executor_, std::move(process)),
      .control = ControlChannel(executor_, std::move(ours)),
  });
  asio::co_spawn(executor_, RunChild(*children_.back(), std::move(snapshot)), asio::detached);
  return absl::OkStatus();
}

// A child's life: it gets the snapshot, says what it has to say, and ends.
asio::awaitable<void> Generation::RunChild(Child& child, Snapshot snapshot) {
  const auto self = shared_from_this();
  bool talking = co_await SendSnapshot(child, snapshot);
  Snapshot().swap(snapshot);  // it has descriptors, listeners among them
  while (talking) {
    auto message = co_await child.control.Receive();
    talking = message && Handle(child, *std::move(message));
    if (!talking) break;
    changed_();
    co_await asio::post(executor_, asio::use_awaitable);  // others' turn, if this one never stops
  }
  const bool expected = child.told_to_end;
  if (!expected) broken_ = true;
  changed_();
  End(child);
  const ExitStatus status = co_await child.process->Exited();
  child.gone = true;
  const std::string line =
      "ended" + log::Field("role", child.name) + log::Field("generation", std::to_string(number_)) +
      log::Field("pid", std::to_string(child.process->pid())) + " " + status.ToString();
  // What a child reported as the reason is logged with its place in the configuration.
  expected || failed_ ? log::Info(line) : log::Error(line);
  changed_();
}

asio::awaitable<bool> Generation::SendSnapshot(Child& child, const Snapshot& snapshot) {
  for (const supervision::Message& message : snapshot) {
    const bool settings = std::holds_alternative<supervision::Settings>(message);
    const bool sent = co_await child.control.Send(message);
    if (!sent) co_return false;
    if (!settings) continue;
    const TicketKeysMessage keys = ticket_keys_.Message();
    const bool keys_sent = co_await child.control.Send(keys.message());
    if (!keys_sent) co_return false;
  }
  co_return true;
}

// False for what ends the conversation: a last word, or one that this child may not say now.
bool Generation::Handle(Child& child, supervision::Message message) {
  if (!child.ready) return HandleBeforeReady(child, std::move(message));
  if (const auto* counters = std::get_if<supervision::Counters>(&message)) {
    child.counters = *counters;
    return !child.is_keyholder;
  }
  if (auto* counters = std::get_if<supervision::ServiceCounters>(&message)) {
    if (child.is_keyholder || !setup_ || counters->service_id >= setup_->queues.size())
      return !child.is_keyholder;
    child.service_counters[counters->service_id] = std::move(*counters);
    return true;
  }
  if (const auto* connect = std::get_if<supervision::Connect>(&message)) {
    if (child.is_keyholder) return false;
    // One that is lost is a request of a worker that fails.
    (void)child.control.SendNow(ConnectFor(*connect));
    return true;
  }
  // It goes on with the connections that it has, and wants to be replaced. During the start the
  // keyholder says itself what is wrong.
  if (std::holds_alternative<supervision::Failed>(message) && !child.is_keyholder) {
    if (!child.told_to_end && ready()) broken_ = true;
    return true;
  }
  if (std::holds_alternative<supervision::Draining>(message) && !child.is_keyholder) {
    child.draining = child.told_to_end;
    return child.draining;
  }
  return false;  // Drained is the last word of those who were told to end
}

supervision::Connected Generation::ConnectFor(const supervision::Connect& connect) const {
  supervision::Connected answer{.request = connect.request, .error = 0, .socket = {}};
  errno = EINVAL;
  if (connect.upstream_id < upstreams_.size())
    answer.socket = ConnectTo(upstreams_[connect.upstream_id]);
  if (!answer.socket) answer.error = static_cast<uint32_t>(errno);
  return answer;
}

bool Generation::HandleBeforeReady(Child& child, supervision::Message message) {
  child.ready = std::holds_alternative<supervision::Ready>(message);
  if (auto* failed = std::get_if<supervision::Failed>(&message); failed && !failed_)
    failed_ = std::move(*failed);
  auto* facts = std::get_if<supervision::Facts>(&message);
  if (facts == nullptr || child.is_keyholder) return child.ready;
  // All say the same, so one is heard; and no more than there can be.
  const bool first = child.name == HandshakerName(0);
  if (!first || facts_.expiries.size() > setup_->config.certificates.size()) return true;
  facts_.expiries.insert(facts_.expiries.end(), facts->expiries.begin(), facts->expiries.end());
  if (!facts->kernel_suites.empty()) facts_.kernel_suites = std::move(facts->kernel_suites);
  return true;
}

void Generation::End(Child& child) {
  child.control.Close();
  child.process->KillAfter(kEndTimeout);
}

bool Generation::ready() const {
  return std::ranges::all_of(children_, [](const auto& child) { return child->ready; });
}

bool Generation::listeners_closed() const {
  return std::ranges::all_of(children_, [](const auto& child) {
    return child->gone || child->is_keyholder || child->draining;
  });
}

bool Generation::handshakers_gone() const {
  return std::ranges::all_of(children_,
                             [](const auto& child) { return child->gone || child->is_keyholder; });
}

bool Generation::gone() const {
  return std::ranges::all_of(children_, [](const auto& child) { return child->gone; });
}

supervision::Counters Generation::counters() const {
  supervision::Counters sum;
  for (const auto& child : children_) Add(sum, child->counters);
  return sum;
}

supervision::ServiceCounters Generation::service_counters(uint16_t service_id) const {
  supervision::ServiceCounters sum;
  sum.service_id = service_id;
  for (const auto& child : children_) {
    const auto part = child->service_counters.find(service_id);
    if (part == child->service_counters.end()) continue;
    sum.direct += part->second.direct;
    sum.relay += part->second.relay;
    if (!part->second.last_reason.empty()) sum.last_reason = part->second.last_reason;
  }
  return sum;
}

std::vector<Generation::ProcessState> Generation::processes() const {
  std::vector<ProcessState> states;
  for (const auto& child : children_) {
    if (child->gone) continue;
    const char* state = child->told_to_end ? "ending" : child->ready ? "serving" : "starting";
    states.push_back({child->name, child->process->pid(), state, child->counters});
  }
  return states;
}

void Generation::Tell(const supervision::Message& message) {
  for (const auto& child : children_) {
    if (!child->is_keyholder && !child->control.SendNow(message)) End(*child);
  }
}

void Generation::Accept() { Tell(supervision::Accept{}); }

void Generation::SendTicketKeys() { Tell(ticket_keys_.Message().message()); }

void Generation::Drain(std::chrono::milliseconds deadline) {
  const supervision::Drain drain{static_cast<uint32_t>(deadline.count())};
  for (const auto& child : children_) {
    if (child->is_keyholder || child->told_to_end) continue;
    child->told_to_end = true;
    child->process->KillAfter(deadline + kEndTimeout);
    if (!child->control.SendNow(drain)) End(*child);
  }
  setup_.reset();
}

void Generation::EndKeyholder() {
  for (const auto& child : children_) {
    if (!child->is_keyholder || child->told_to_end) continue;
    child->told_to_end = true;
    End(*child);
  }
}

void Generation::Kill() {
  for (const auto& child : children_) {
    child->told_to_end = true;
    child->process->Signal(SIGKILL);
  }
}

}  // namespace tlsbroker::supervisor
