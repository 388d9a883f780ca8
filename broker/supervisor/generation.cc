// SPDX-License-Identifier: Apache-2.0
#include "broker/supervisor/generation.h"

#include <algorithm>
#include <cerrno>
#include <utility>

#include "broker/supervisor/counters.h"
#include "broker/supervisor/upstreams.h"
#include "broker/support/log.h"
#include "broker/support/status.h"
#include "protocol/pipe.h"
#include "protocol/supervision.h"

namespace tlsbroker::supervisor {
namespace {

// For a drain without a deadline: relayed connections may last.
constexpr std::chrono::milliseconds kNever = std::chrono::hours(24 * 365 * 10);

}  // namespace

Generation::Generation(const asio::any_io_executor& executor, uint32_t number,
                       std::shared_ptr<const ServiceSetup> setup, const TicketKeyRing& ticket_keys,
                       const Programs& programs, std::shared_ptr<LogSources> log,
                       std::function<void()> changed)
    : executor_(executor),
      number_(number),
      setup_(std::move(setup)),
      ticket_keys_(ticket_keys),
      programs_(programs),
      log_(std::move(log)),
      changed_(std::move(changed)) {
  for (const ServiceSetup::Upstream& upstream : setup_->upstreams)
    upstreams_.push_back(upstream.config.address.value);
}

absl::Status Generation::Start(uint32_t handshakers) {
  ASSIGN_OR_RETURN(Snapshot snapshot, KeyholderSnapshot(*setup_));
  ASSIGN_OR_RETURN(std::unique_ptr<LogPipe> log, OpenLog());
  Child& keyholder = NewChild(true, 0, "keyholder", programs_.keyholder);
  keyholder.process->Start(std::move(snapshot), std::move(log));
  for (uint32_t i = 0; i < handshakers; ++i) RETURN_IF_ERROR(StartHandshaker(handshakers));
  return absl::OkStatus();
}

absl::Status Generation::AddHandshaker() {
  RETURN_IF_ERROR(StartHandshaker(handshakers() + 1));
  ShareLimits();
  return absl::OkStatus();
}

// Starts one of the `of` handshakers that share the limits. The keyholder gets its ends of the
// signing channel after what it was told already.
absl::Status Generation::StartHandshaker(uint32_t of) {
  const uint16_t index = next_index_++;
  pipes::Pipe requests = pipes::Make();
  pipes::Pipe answers = pipes::Make();
  if (!requests.reading || !answers.reading) return ErrnoStatus("pipe2");
  SigningEnds keyholders{std::move(requests.reading), std::move(answers.writing)};
  SigningEnds handshakers{std::move(requests.writing), std::move(answers.reading)};
  ASSIGN_OR_RETURN(UniqueFd rekey_lock, ticket_keys_.RekeyLock());
  ASSIGN_OR_RETURN(Snapshot snapshot, HandshakerSnapshot(*setup_, index, of, std::move(handshakers),
                                                         std::move(rekey_lock)));
  ASSIGN_OR_RETURN(std::unique_ptr<LogPipe> log, OpenLog());
  children_.front()->process->SendLater(ChannelMessage(*setup_, index, std::move(keyholders)));
  Child& child =
      NewChild(false, index, "handshaker[" + std::to_string(index) + "]", programs_.handshaker);
  child.process->Start(std::move(snapshot), std::move(log), &ticket_keys_);
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<LogPipe>> Generation::OpenLog() const {
  if (!log_) return nullptr;
  return log_->Open(LogSources::Kind::kRole, setup_->name());
}

Generation::Child& Generation::NewChild(bool is_keyholder, uint16_t index, std::string role,
                                        const std::string& program) {
  children_.push_back(std::make_unique<Child>(Child{.is_keyholder = is_keyholder, .index = index}));
  Child& child = *children_.back();
  child.process = std::make_shared<RoleProcess>(
      executor_,
      RoleProcess::Spec{
          .role = std::move(role),
          .service = setup_->name(),
          .generation = number_,
          .program = program,
          .environment = ChildEnvironment(setup_->log_level),
          .says = is_keyholder ? supervision::kFromKeyholder : supervision::kFromHandshaker},
      [weak = weak_from_this(), &child](supervision::Message message) {
        const auto self = weak.lock();
        return self && self->Handle(child, std::move(message));
      },
      [weak = weak_from_this(), &child] {
        if (const auto self = weak.lock()) self->OnChange(child);
      });
  return child;
}

void Generation::OnChange(Child& child) {
  if (!child.is_keyholder && child.process->ready() && accepts_ && !child.accepts) {
    child.accepts = true;
    child.process->SendOrEnd(supervision::Accept{});
  }
  changed_();
}

// Handles what a handshaker says. False ends it.
bool Generation::Handle(Child& child, supervision::Message message) {
  if (auto* facts = std::get_if<supervision::Facts>(&message)) {
    Take(child, std::move(*facts));
    return true;
  }
  if (const auto* counters = std::get_if<supervision::Counters>(&message)) {
    child.counters = *counters;
    return true;
  }
  if (auto* reason = std::get_if<supervision::LastReason>(&message)) {
    last_reason_ = std::move(reason->text);
    return true;
  }
  if (const auto* connect = std::get_if<supervision::Connect>(&message)) {
    // If the answer is lost, a request of a worker fails.
    (void)child.process->SendNow(ConnectFor(*connect));
    return true;
  }
  // The handshaker goes on with the connections that it has, and wants to be replaced.
  if (std::holds_alternative<supervision::Failed>(message)) {
    child.wants_successor = true;
    return true;
  }
  if (std::holds_alternative<supervision::Draining>(message)) {
    child.draining = child.process->told_to_end();
    return child.draining;
  }
  return true;
}

// All handshakers report the same facts, so only one is heard, and it may not report more than
// there can be.
void Generation::Take(const Child& child, supervision::Facts facts) {
  const bool first = child.index == 0;
  if (!first || !setup_ || facts_.expiries.size() > setup_->certificates.size()) return;
  facts_.expiries.insert(facts_.expiries.end(), facts.expiries.begin(), facts.expiries.end());
  if (!facts.kernel_suites.empty()) facts_.kernel_suites = std::move(facts.kernel_suites);
}

supervision::Connected Generation::ConnectFor(const supervision::Connect& connect) const {
  supervision::Connected answer{.request = connect.request, .error = 0, .socket = {}};
  errno = EINVAL;
  if (connect.upstream_id < upstreams_.size())
    answer.socket = ConnectTo(upstreams_[connect.upstream_id]);
  if (!answer.socket) answer.error = static_cast<uint32_t>(errno);
  return answer;
}

template <typename Predicate>
bool Generation::All(Predicate predicate) const {
  return std::ranges::all_of(children_, [&](const auto& child) { return predicate(*child); });
}

bool Generation::ready() {
  ready_ = ready_ || All([](const Child& child) { return child.process->ready(); });
  return ready_;
}

bool Generation::broken() const {
  return !All([this](const Child& child) {
    return !child.process->lost() || (ready_ && !child.is_keyholder);
  });
}

std::optional<supervision::Failed> Generation::failed() const {
  for (const auto& child : children_) {
    if (child->process->failed()) return child->process->failed();
  }
  return std::nullopt;
}

absl::Status Generation::start_error() const {
  for (const auto& child : children_) {
    if (!child->process->start_error().ok()) return child->process->start_error();
  }
  return absl::OkStatus();
}

bool Generation::listeners_closed() const {
  return All([](const Child& child) {
    return child.process->gone() || child.is_keyholder || child.draining;
  });
}

bool Generation::handshakers_gone() const {
  return All([](const Child& child) { return child.process->gone() || child.is_keyholder; });
}

bool Generation::gone() const {
  return All([](const Child& child) { return child.process->gone(); });
}

bool Generation::left_behind() const {
  return !All([](const Child& child) { return !child.process->left_behind(); });
}

supervision::Counters Generation::counters() const {
  supervision::Counters sum = past_;
  for (const auto& child : children_) Add(sum, child->counters);
  return sum;
}

std::vector<std::shared_ptr<const RoleProcess>> Generation::processes() const {
  std::vector<std::shared_ptr<const RoleProcess>> list;
  for (const auto& child : children_) {
    const RoleProcess& process = *child->process;
    if (process.pid() != 0 && (!process.gone() || process.left_behind()))
      list.push_back(child->process);
  }
  return list;
}

uint32_t Generation::handshakers() const {
  return static_cast<uint32_t>(std::ranges::count_if(
      children_, [](const auto& child) { return !child->is_keyholder && child->serves(); }));
}

std::vector<supervision::Heartbeat> Generation::heartbeats() const {
  std::vector<supervision::Heartbeat> beats;
  for (const auto& child : children_) {
    if (!child->is_keyholder && child->serves() && child->process->ready())
      beats.push_back(child->process->heartbeat());
  }
  return beats;
}

void Generation::RetireHandshaker() {
  for (auto child = children_.rbegin(); child != children_.rend(); ++child) {
    if ((*child)->is_keyholder || !(*child)->serves() || !(*child)->process->ready()) continue;
    TellToDrain(**child, kNever);
    return ShareLimits();
  }
}

void Generation::TellToDrain(Child& child, std::chrono::milliseconds deadline) {
  const bool never = deadline == kNever;
  const supervision::Drain drain{never ? supervision::Drain::kNever
                                       : static_cast<uint32_t>(deadline.count())};
  child.process->EndWithin(deadline);
  if (!child.process->SendNow(drain)) child.process->End();
}

// Not as a Message: a conversion would copy ticket keys to where nobody wipes them.
void Generation::Tell(const supervision::Encoded& message) {
  for (const auto& child : children_) {
    if (child->is_keyholder || !child->process->ready() || child->process->gone()) continue;
    child->process->SendOrEnd(message);
  }
}

void Generation::ShareLimits() {
  if (setup_) Tell(supervision::EncodeOne(LimitsMessage(*setup_, handshakers())));
}

void Generation::Accept() {
  accepts_ = true;
  for (const auto& child : children_) {
    if (!child->is_keyholder) OnChange(*child);
  }
}

void Generation::SendTicketKeys() {
  Tell(supervision::EncodeOne(ticket_keys_.Message().message()));
}

void Generation::Drain(std::chrono::milliseconds deadline) {
  for (const auto& child : children_) {
    if (!child->is_keyholder) TellToDrain(*child, deadline);
  }
  setup_.reset();
}

void Generation::EndKeyholder() {
  for (const auto& child : children_) {
    if (child->is_keyholder && !child->process->told_to_end()) child->process->End();
  }
}

void Generation::Kill() {
  for (const auto& child : children_) child->process->Kill();
}

void Generation::Look(Clock::time_point now) {
  for (const auto& child : children_) {
    child->process->Look(now);
    const bool lost = child->process->lost() || child->wants_successor;
    if (!lost || std::exchange(child->lost, true)) continue;
    if (child->process->hanging().count() > 0) ++hung_;
    if (child->is_keyholder || !ready_) continue;
    loss_ = true;
    ShareLimits();
    // The handshaker goes on with the connections that it has.
    if (child->wants_successor && !child->process->lost()) TellToDrain(*child, kNever);
  }
  if (!ready_) return;
  EndTooManyLeaving();
  std::erase_if(children_, [this](const auto& child) {
    if (child->is_keyholder || !child->process->gone() || child->process->left_behind())
      return false;
    AddEnded(past_, child->counters);
    return true;
  });
}

// The children are in the order of their start.
void Generation::EndTooManyLeaving() {
  const auto leaving = [](const auto& child) {
    return !child->is_keyholder && child->process->told_to_end() && !child->process->gone();
  };
  auto count = static_cast<size_t>(std::ranges::count_if(children_, leaving));
  for (const auto& child : children_) {
    if (count <= kMaxLeaving) return;
    if (!leaving(child)) continue;
    if (!std::exchange(child->too_many, true)) {
      log::Warning("too many handshakers stay for their connections; ending the oldest" +
                   log::Field("service", child->process->spec().service) +
                   log::Field("pid", std::to_string(child->process->pid())));
    }
    child->process->End();
    --count;
  }
}

}  // namespace tlsbroker::supervisor
