// SPDX-License-Identifier: Apache-2.0
#include "broker/logger/server.h"

#include <algorithm>
#include <cerrno>
#include <string>
#include <utility>

#include "broker/support/log.h"
#include "broker/support/report.h"
#include "broker/support/status.h"
#include "protocol/channel.h"
#include "protocol/supervision.h"

namespace tlsbroker::logger {

using std::chrono::milliseconds;

bool Server::Handle(supervision::Message message) {
  if (auto* source = std::get_if<supervision::LogSource>(&message)) {
    const uint32_t id = source->id;
    auto share = ShareOf(*source);
    auto sender = std::make_unique<Sender>(std::move(*source), std::move(share));
    return senders_.try_emplace(id, std::move(sender)).second;
  }
  if (auto* output = std::get_if<supervision::LogOutput>(&message)) {
    output_.Use(std::move(*output));
    return true;
  }
  if (const auto* end = std::get_if<supervision::LogEnd>(&message)) {
    const auto sender = senders_.find(end->id);
    if (sender == senders_.end()) return true;  // its pipe was at its end before
    sender->second->ReadRest(Clock::now(), output_);
    Remove(sender);
    return true;
  }
  if (const auto* drain = std::get_if<supervision::Drain>(&message)) {
    deadline_ = Clock::now() + milliseconds(drain->deadline_ms);
    return true;
  }
  return false;
}

// All handshakers of a service ("handshaker.web[2.1]: " and so on) have one share together, so that
// other processes of the broker have room, too.
std::shared_ptr<Share> Server::ShareOf(const supervision::LogSource& source) {
  const size_t index = source.tag.find('[');
  if (source.kind != supervision::LogSource::Kind::kRole || index == std::string::npos)
    return std::make_shared<Share>(Sender::ShareOf(source.kind));
  std::erase_if(shares_, [](const auto& share) { return share.second.expired(); });
  auto& known = shares_[source.tag.substr(0, index)];
  auto share = known.lock();
  if (!share) known = share = std::make_shared<Share>(Sender::ShareOf(source.kind));
  return share;
}

absl::Status Server::Run(ControlEnd& control, const std::function<void()>& beat,
                         const std::function<void()>& alone) {
  beat_ = beat;
  alone_ = alone;
  while (!Over(Clock::now())) RETURN_IF_ERROR(Turn(control));
  for (const auto& [id, sender] : senders_) sender->End(Clock::now(), output_);
  output_.Write(Clock::now());
  return absl::OkStatus();
}

bool Server::Over(Clock::time_point now) const {
  if (!deadline_) return false;
  return now >= *deadline_ || (quiet_ && output_.empty());
}

absl::Status Server::Turn(ControlEnd& control) {
  // poll(2) looks at the control socket first, so that lines written before the supervisor's last
  // message are seen together with it.
  polled_.assign({{supervised_ ? control.socket() : -1, POLLIN, 0}, output_.Awaited()});
  for (const auto& [id, sender] : senders_) polled_.push_back({sender->pipe(), POLLIN, 0});
  const int ready = poll(polled_.data(), polled_.size(), Timeout(Clock::now()));
  if (ready < 0 && errno != EINTR) return ErrnoStatus("poll");
  const Clock::time_point now = Clock::now();
  quiet_ = true;
  if (ready > 0) ReadSenders(now);
  if (ready > 0 && polled_[0].revents != 0) RETURN_IF_ERROR(HandleControl(control));
  if (!supervised_ && senders_.empty() && !deadline_) deadline_ = now + kLastWords;
  output_.Write(now);
  SayLost(now);
  if (now >= next_beat_) {
    next_beat_ = now + supervision::kHeartbeatPeriod;
    if (supervised_) beat_();
  }
  return absl::OkStatus();
}

// At most until the next heartbeat: what else is done once in a while is done with it.
int Server::Timeout(Clock::time_point now) const {
  if (deadline_ && output_.empty()) return 0;  // what has not come by now will not come
  Clock::time_point next = next_beat_;
  if (deadline_) next = std::min(next, *deadline_);
  if (output_.next_try() > now && !output_.empty()) next = std::min(next, output_.next_try());
  const auto left = std::chrono::ceil<milliseconds>(next - now).count();
  return static_cast<int>(std::clamp<int64_t>(left, 0, 1'000));
}

absl::Status Server::HandleControl(ControlEnd& control) {
  auto message = control.NextIfAny();
  if (absl::IsUnavailable(message.status())) {
    supervised_ = false;
    if (!deadline_) alone_();
    return absl::OkStatus();
  }
  RETURN_IF_ERROR(message.status());
  if (!*message || Handle(**std::move(message))) return absl::OkStatus();
  return absl::InternalError("message out of order from the supervisor");
}

void Server::ReadSenders(Clock::time_point now) {
  size_t i = 2;
  for (auto next = senders_.begin(); next != senders_.end();) {
    const auto sender = next++;
    if (polled_[i++].revents == 0) continue;
    quiet_ = false;
    const bool open = sender->second->Read(now, output_);
    if (supervised_ && sender->second->TakeHeld())
      (void)Report(supervision::LogHeld{sender->first});
    if (!open) Remove(sender);
  }
}

void Server::Remove(std::map<uint32_t, std::unique_ptr<Sender>>::iterator sender) {
  lost_of_ended_ += sender->second->End(Clock::now(), output_);
  senders_.erase(sender);
}

void Server::SayLost(Clock::time_point now) {
  for (const auto& [id, sender] : senders_) sender->SayLost(now, output_);
  if (lost_of_ended_ == 0 || !output_.empty()) return;
  log::Warning(std::to_string(std::exchange(lost_of_ended_, 0)) +
               " lines of processes that have ended are lost (the log was read too slowly)");
}

}  // namespace tlsbroker::logger
