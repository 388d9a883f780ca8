// SPDX-License-Identifier: Apache-2.0
#include "broker/supervisor/status_socket.h"

#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <string_view>
#include <utility>
#include <variant>

#include "broker/supervisor/pidfd.h"
#include "broker/support/log.h"
#include "broker/support/status.h"
#include "protocol/supervision.h"

namespace tlsbroker::supervisor {
namespace {

absl::StatusOr<UniqueFd> MemoryFile(std::string_view text) {
  UniqueFd file(memfd_create("status", MFD_CLOEXEC));
  if (!file) return ErrnoStatus("memfd_create");
  while (!text.empty()) {
    const ssize_t n = write(file.get(), text.data(), text.size());
    if (n <= 0) return ErrnoStatus("writing the state");
    text.remove_prefix(static_cast<size_t>(n));
  }
  return file;
}

}  // namespace

StatusSocket::StatusSocket(const asio::any_io_executor& executor, const std::string& runtime_dir,
                           PorterStart start, std::function<std::string()> report,
                           std::function<void()> changed)
    : timer_(executor),
      report_(std::move(report)),
      porter_(std::make_shared<Porter>(executor, "", std::move(start), runtime_dir + "/status",
                                       SOCK_STREAM, Access(), *this, std::move(changed))) {}

absl::StatusOr<supervision::Message> StatusSocket::Duty() {
  supervision::StatusPoint duty{UniqueFd(pidfd_open(getpid(), 0))};
  if (!duty.supervisor) return ErrnoStatus("pidfd_open");
  return duty;
}

// A porter that asks again before it has its answer gets an answer only to the last request.
bool StatusSocket::Heard(supervision::Message message) {
  const auto* wanted = std::get_if<supervision::StatusWanted>(&message);
  if (wanted == nullptr) return false;
  timer_.expires_at(std::max(Clock::now(), next_answer_));
  timer_.async_wait([this, request = wanted->request](const asio::error_code& cancelled) {
    if (!cancelled) Answer(request);
  });
  return true;
}

// If the answer is lost nobody gets one: the client that asked sees the end of the stream.
void StatusSocket::Answer(uint32_t request) {
  next_answer_ = Clock::now() + kPause;
  absl::StatusOr<UniqueFd> text = MemoryFile(report_());
  if (!text.ok()) return log::Error("no status: " + std::string(text.status().message()));
  (void)porter_->SendNow(supervision::StatusText{.request = request, .text = *std::move(text)});
}

}  // namespace tlsbroker::supervisor
