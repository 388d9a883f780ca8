// SPDX-License-Identifier: Apache-2.0
#include "broker/porter/status_point.h"

#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <utility>
#include <variant>

#include "broker/support/report.h"
#include "broker/support/status.h"
#include "protocol/supervision.h"

namespace tlsbroker::porter {
namespace {

absl::StatusOr<std::string> ReadAll(int file) {
  std::string text;
  std::array<char, 16'384> buffer;
  for (;;) {
    const ssize_t n = pread(file, buffer.data(), buffer.size(), static_cast<off_t>(text.size()));
    if (n < 0) return ErrnoStatus("reading the state from the supervisor");
    if (n == 0) return text;
    text.append(buffer.data(), static_cast<size_t>(n));
  }
}

// Like send(2), but sends the descriptor with the first byte, unless it is -1.
ssize_t SendWith(int socket, std::string_view text, int fd) {
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
  iovec data{const_cast<char*>(text.data()), text.size()};
  msghdr message{};
  message.msg_iov = &data;
  message.msg_iovlen = 1;
  if (fd >= 0) {
    message.msg_control = control;
    message.msg_controllen = sizeof(control);
    cmsghdr* header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof(int));
    std::memcpy(CMSG_DATA(header), &fd, sizeof(fd));
  }
  return sendmsg(socket, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
}

}  // namespace

absl::Status StatusPoint::Welcome(UniqueFd socket) {
  client_ = std::move(socket);
  deadline_ = Clock::now() + kLimit;
  return ReportSurely(supervision::StatusWanted{++request_});
}

void StatusPoint::Dismiss() {
  client_.Reset();
  text_.reset();
  sent_ = 0;
}

void StatusPoint::AddPolled(std::vector<pollfd>& polled) const {
  // Before the text has come, this only waits for the client to go away.
  if (client_) polled.push_back({client_.get(), static_cast<short>(text_ ? POLLOUT : 0), 0});
}

Clock::time_point StatusPoint::deadline() const {
  return client_ ? deadline_ : Clock::time_point::max();
}

absl::Status StatusPoint::Serve(std::span<const pollfd> polled, Clock::time_point now) {
  if (!client_) return absl::OkStatus();
  const int events = polled.empty() ? 0 : polled.front().revents;
  if (now >= deadline_ || (events & (POLLERR | POLLHUP)) != 0) {
    Dismiss();
  } else if (text_ && (events & POLLOUT) != 0) {
    Write();
  }
  return absl::OkStatus();
}

void StatusPoint::Write() {
  const ssize_t n = SendWith(client_.get(), std::string_view(*text_).substr(sent_),
                             sent_ == 0 ? supervisor_.get() : -1);
  if (n < 0 && (errno == EAGAIN || errno == EINTR)) return;
  if (n > 0) sent_ += static_cast<size_t>(n);
  if (n < 0 || sent_ == text_->size()) Dismiss();
}

absl::Status StatusPoint::Handle(supervision::Message message) {
  const auto* answer = std::get_if<supervision::StatusText>(&message);
  if (answer == nullptr) return absl::InternalError("message out of order from the supervisor");
  if (!client_ || answer->request != request_) return absl::OkStatus();  // the client is gone
  ASSIGN_OR_RETURN(text_, ReadAll(answer->text.get()));
  if (text_->empty()) Dismiss();
  return absl::OkStatus();
}

}  // namespace tlsbroker::porter
