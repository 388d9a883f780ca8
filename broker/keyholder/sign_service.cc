// SPDX-License-Identifier: Apache-2.0
#include "broker/keyholder/sign_service.h"

#include <algorithm>
#include <bit>
#include <utility>

#include "absl/strings/str_cat.h"
#include "broker/support/log.h"
#include "broker/support/status.h"
#include "protocol/message.h"

namespace tlsbroker {

using signing::Reason;
using signing::Shape;

bool SignService::AddKey(uint16_t certificate_id, PrivateKey key) {
  return keys_.try_emplace(certificate_id, std::move(key)).second;
}

bool SignService::Permission::Allows(uint16_t certificate_id) const {
  return std::ranges::count(server, certificate_id) + std::ranges::count(client, certificate_id) >
         0;
}

// A server's certificate is not for a client, nor the other way round, unless the configuration
// uses it for both.
bool SignService::Permission::Allows(uint16_t certificate_id, Shape shape) const {
  if (shape == Shape::kTls12Server && policy != supervision::Policy::kIntermediate) return false;
  if (shape == Shape::kTls12AloneServer && policy != supervision::Policy::kTls12) return false;
  if (shape == Shape::kTls13Server && policy == supervision::Policy::kTls12) return false;
  const auto& allowed = signing::IsClientShape(shape) ? client : server;
  return std::ranges::count(allowed, certificate_id) > 0;
}

bool SignService::AddChannel(uint16_t index, Permission permission, Ends ends, RateLimit rate) {
  const auto known = [this](uint16_t id) { return keys_.contains(id); };
  if (!std::ranges::all_of(permission.server, known)) return false;
  if (!std::ranges::all_of(permission.client, known)) return false;
  std::erase_if(channels_, [](const Channel& old) { return !old.ends.requests.valid(); });
  channels_.push_back({index, std::move(permission), std::move(ends), rate});
  return true;
}

const SignService::Counters& SignService::counters(uint16_t index) const {
  return std::ranges::find(channels_, index, &Channel::index)->counters;
}

absl::Status SignService::Run(int control, const std::function<absl::StatusOr<bool>()>& on_control,
                              const std::function<void()>& beat) {
  beat_ = beat;
  for (bool go_on = true; go_on;) {
    ASSIGN_OR_RETURN(const bool nothing_on_control, Round(control));
    if (!nothing_on_control) {
      ASSIGN_OR_RETURN(go_on, on_control());
    }
    BeatWhenDue();
  }
  LogCounters();
  return absl::OkStatus();
}

// Called after each signature as well: on a slow machine the signatures of one turn can take so
// long that the supervisor would take this process for one that hangs.
void SignService::BeatWhenDue() {
  const auto now = RateLimit::Clock::now();
  if (!beat_ || now < next_beat_) return;
  next_beat_ = now + supervision::kHeartbeatPeriod;
  beat_();
}

absl::StatusOr<bool> SignService::Round(int control) {
  // poll(2) skips closed channels, whose descriptor is -1. It does not report a request that was
  // read together with the one before.
  bool waiting = false;
  polled_.resize(channels_.size() + 1);
  for (size_t i = 0; i < channels_.size(); ++i) {
    polled_[i] = {channels_[i].ends.requests.get(), POLLIN, 0};
    waiting = waiting || channels_[i].reader.has_next();
  }
  polled_.back() = {control, POLLIN, 0};
  constexpr auto kPause = static_cast<int>(supervision::kHeartbeatPeriod.count());
  if (poll(polled_.data(), polled_.size(), waiting ? 0 : kPause) < 0) {
    if (errno == EINTR) return true;
    return ErrnoStatus("poll");
  }
  if (polled_.back().revents != 0) return false;
  for (size_t i = 0; i < channels_.size(); ++i) {
    if (polled_[i].revents == 0 && !channels_[i].reader.has_next()) continue;
    Serve(channels_[i]);
    BeatWhenDue();
  }
  return true;
}

void SignService::Serve(Channel& channel) {
  switch (channel.reader.Next(channel.ends.requests.get())) {
    case pipes::Result::kOk:
      break;
    case pipes::Result::kWouldBlock:
      return;
    case pipes::Result::kClosed:
      return Close(channel);
    case pipes::Result::kMalformed:
    case pipes::Result::kError:
      return CloseBroken(channel, "not one of our messages");
  }
  const auto request = signing::DecodeSign(channel.reader.message());
  if (!request) return CloseBroken(channel, "a malformed request");
  const std::vector<uint8_t> reply = signing::Encode(Answer(channel, *request));
  // A handshaker waits for each answer, so there is always room for one.
  switch (pipes::Send(channel.ends.answers.get(), reply)) {
    case pipes::Result::kOk:
      return;
    case pipes::Result::kClosed:
      return Close(channel);
    default:
      return CloseBroken(channel, "it does not read its answers");
  }
}

signing::Reply SignService::Answer(Channel& channel, const signing::Sign& request) {
  if (!channel.rate.Take(RateLimit::Clock::now())) return Refuse(channel, request, Reason::kRate);
  if (!channel.permission.Allows(request.certificate_id)) {
    return Refuse(channel, request, Reason::kCertificate);
  }
  const auto shape = signing::ShapeOf(request.content);
  if (!shape || !channel.permission.Allows(request.certificate_id, *shape)) {
    return Refuse(channel, request, Reason::kContent);
  }
  const PrivateKey& key = keys_.at(request.certificate_id);
  if (!signing::SchemeFits(request.scheme, key.type(), *shape)) {
    return Refuse(channel, request, Reason::kScheme);
  }
  auto signature = key.Sign(request.scheme, request.content);
  if (!signature.ok()) {
    log::Error(
        absl::StrCat("certificate ", request.certificate_id, ": ", signature.status().message()));
    return Refuse(channel, request, Reason::kFailed);
  }
  ++channel.counters.signatures;
  return signing::Signature{request.request_id, *std::move(signature)};
}

signing::Reply SignService::Refuse(Channel& channel, const signing::Sign& request, Reason reason) {
  const uint64_t count = ++channel.counters.refused[static_cast<size_t>(reason)];
  // Only the 1st, 2nd, 4th, 8th... are logged: the handshaker must not be able to fill the log.
  if (std::has_single_bit(count)) {
    log::Warning(absl::StrCat("refused handshaker ", channel.index, " a signature:", " reason=",
                              signing::ReasonName(reason), " certificate=", request.certificate_id,
                              " scheme=", request.scheme, " count=", count));
  }
  return signing::Refused{request.request_id, reason};
}

void SignService::Close(Channel& channel) {
  channel.ends = {};
  channel.reader = pipes::Reader(signing::kMaxMessage);  // drops what came and was not answered
}

void SignService::CloseBroken(Channel& channel, const char* why) {
  ++channel.counters.malformed;
  log::Error(absl::StrCat("closing the channel of handshaker ", channel.index, ": ", why));
  Close(channel);
}

void SignService::LogCounters() const {
  for (const Channel& channel : channels_) {
    std::string line =
        absl::StrCat("handshaker=", channel.index, " signed=", channel.counters.signatures);
    for (const Reason reason : {Reason::kCertificate, Reason::kContent, Reason::kScheme,
                                Reason::kRate, Reason::kFailed}) {
      absl::StrAppend(&line, " refused_", signing::ReasonName(reason), "=",
                      channel.counters.refused[static_cast<size_t>(reason)]);
    }
    log::Info(absl::StrCat(line, " malformed=", channel.counters.malformed));
  }
}

}  // namespace tlsbroker
