#include "broker/keyholder/sign_service.h"

#include <algorithm>
#include <bit>
#include <utility>

#include "absl/strings/str_cat.h"
#include "broker/support/log.h"
#include "broker/support/status.h"

namespace tlsbroker {

using signing::Reason;

RateLimit::RateLimit(uint32_t per_second, uint32_t burst)
    : interval_(std::chrono::duration_cast<Clock::duration>(std::chrono::seconds(1)) / per_second),
      tolerance_(interval_ * (burst - 1)) {}

bool RateLimit::Take(Clock::time_point now) {
  const Clock::time_point due = std::max(next_, now);
  if (due - now > tolerance_) return false;
  next_ = due + interval_;
  return true;
}

bool SignService::AddKey(uint16_t certificate_id, PrivateKey key) {
  return keys_.try_emplace(certificate_id, std::move(key)).second;
}

bool SignService::AddChannel(uint16_t index, Permission permission, UniqueFd channel,
                             RateLimit rate) {
  const auto known = [this](uint16_t id) { return keys_.contains(id); };
  if (!std::ranges::all_of(permission.server, known)) return false;
  if (!std::ranges::all_of(permission.client, known)) return false;
  channels_.push_back({index, std::move(permission), std::move(channel), rate, Counters()});
  return true;
}

const SignService::Counters& SignService::counters(uint16_t index) const {
  return std::ranges::find(channels_, index, &Channel::index)->counters;
}

absl::Status SignService::Run(int control) {
  while (true) {
    ASSIGN_OR_RETURN(const bool go_on, Round(control));
    if (!go_on) break;
  }
  LogCounters();
  if (channel::Receive(control, 1, 0, message_, /*dont_wait=*/true) == channel::Result::kClosed) {
    return absl::OkStatus();
  }
  return absl::FailedPreconditionError("the supervisor sent a message after Start");
}

absl::StatusOr<bool> SignService::Round(int control) {
  // poll(2) skips closed channels, their descriptor being -1.
  polled_.resize(channels_.size() + 1);
  for (size_t i = 0; i < channels_.size(); ++i) polled_[i] = {channels_[i].fd.get(), POLLIN, 0};
  polled_.back() = {control, POLLIN, 0};
  if (poll(polled_.data(), polled_.size(), -1) < 0) {
    if (errno == EINTR) return true;
    return ErrnoStatus("poll");
  }
  if (polled_.back().revents != 0) return false;
  for (size_t i = 0; i < channels_.size(); ++i) {
    if (polled_[i].revents != 0) Serve(channels_[i]);
  }
  return true;
}

void SignService::Serve(Channel& channel) {
  switch (channel::Receive(channel.fd.get(), signing::kMaxMessage, 0, message_,
                           /*dont_wait=*/true)) {
    case channel::Result::kOk:
      break;
    case channel::Result::kWouldBlock:
      return;
    case channel::Result::kClosed:
      channel.fd.Reset();
      return;
    case channel::Result::kMalformed:
    case channel::Result::kError:
      message_.fds.clear();  // nothing of a handshaker's stays here
      return CloseBroken(channel, "not one of our messages");
  }
  const auto request = signing::DecodeSign(message_.bytes);
  if (!request) return CloseBroken(channel, "a malformed request");
  const std::vector<uint8_t> reply = signing::Encode(Answer(channel, *request));
  // A handshaker waits for each answer, so there is always room for one.
  const auto sent = channel::Send(channel.fd.get(), reply, {}, /*dont_wait=*/true);
  if (sent == channel::Result::kWouldBlock) CloseBroken(channel, "it does not read its answers");
}

signing::Reply SignService::Answer(Channel& channel, const signing::Sign& request) {
  if (!channel.rate.Take(RateLimit::Clock::now())) return Refuse(channel, request, Reason::kRate);
  const auto may = [&](const std::vector<uint16_t>& ids) {
    return std::ranges::count(ids, request.certificate_id) > 0;
  };
  const bool may_server = may(channel.permission.server);
  const bool may_client = may(channel.permission.client);
  if (!may_server && !may_client) return Refuse(channel, request, Reason::kCertificate);
  // A server's certificate is not for a client, nor the other way round, unless the configuration
  // uses it for both.
  const auto shape = signing::ShapeOf(request.content);
  if (!shape || !(signing::IsClientShape(*shape) ? may_client : may_server)) {
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
  // The 1st, 2nd, 4th, 8th...: the handshaker must not be able to fill the log.
  if (std::has_single_bit(count)) {
    log::Warning(absl::StrCat("refused handshaker ", channel.index, " a signature:", " reason=",
                              signing::ReasonName(reason), " certificate=", request.certificate_id,
                              " scheme=", request.scheme, " count=", count));
  }
  return signing::Refused{request.request_id, reason};
}

void SignService::CloseBroken(Channel& channel, const char* why) {
  ++channel.counters.malformed;
  log::Error(absl::StrCat("closing the channel of handshaker ", channel.index, ": ", why));
  channel.fd.Reset();
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
