// SPDX-License-Identifier: Apache-2.0
#include "broker/supervisor/log_sources.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/stat.h>

#include <algorithm>
#include <utility>

#include "broker/supervisor/elsewhere.h"
#include "broker/support/status.h"
#include "protocol/logger_messages.h"
#include "protocol/pipe.h"

namespace tlsbroker::supervisor {
namespace {

// Room for what a process of ours writes while its logger does not run. A smaller pipe is no error:
// there is a limit for users in /proc/sys/fs/pipe-user-pages-soft.
constexpr int kRolePipeSize = 256 * 1024;

// Nobody can write, and everything has been read.
bool IsOver(int reading) {
  pollfd state{reading, POLLIN, 0};
  return poll(&state, 1, 0) == 1 && (state.revents & POLLHUP) != 0 && (state.revents & POLLIN) == 0;
}

}  // namespace

LogPipe::LogPipe(std::shared_ptr<LogSources> sources, uint32_t id, UniqueFd writing)
    : sources_(std::move(sources)), id_(id), writing_(std::move(writing)) {}

LogPipe::~LogPipe() {
  CloseWriting();
  sources_->Ended(id_);
}

void LogPipe::Name(std::string tag) { sources_->Name(id_, std::move(tag)); }

absl::Status LogPipe::LetWorkerOpen() {
  return fchmod(writing_.get(), 0622) == 0 ? absl::OkStatus() : ErrnoStatus("a pipe for the log");
}

void LogPipe::OnHeld(std::function<void()> held) {
  const auto source = sources_->sources_.find(id_);
  if (source != sources_->sources_.end()) source->second.on_held = std::move(held);
}

absl::StatusOr<std::unique_ptr<LogPipe>> LogSources::Open(Kind kind, const std::string& owner) {
  if (CountEnded() >= kMaxEnded) {
    return absl::ResourceExhaustedError(
        "processes that earlier ones have started keep too many pipes to the log open");
  }
  pipes::Pipe pipe = pipes::Make();
  if (!pipe.reading) return ErrnoStatus("a pipe for the log");
  if (kind == Kind::kWorker) {
    if (fcntl(pipe.writing.get(), F_SETFL, 0) != 0) return ErrnoStatus("a pipe for the log");
  } else {
    (void)fcntl(pipe.writing.get(), F_SETPIPE_SZ, kRolePipeSize);
  }
  const uint32_t id = next_id_++;
  sources_[id] = {.reading = std::move(pipe.reading), .kind = kind, .owner = owner};
  changed_();
  return std::make_unique<LogPipe>(shared_from_this(), id, std::move(pipe.writing));
}

void LogSources::Name(uint32_t id, std::string tag) {
  const auto source = sources_.find(id);
  if (source == sources_.end()) return;  // the pipe is at its end
  source->second.tag = std::move(tag);
  changed_();
}

void LogSources::Ended(uint32_t id) {
  const auto source = sources_.find(id);
  if (source == sources_.end()) return;
  source->second.ended = true;
  // Without a tag no program has had the writing end.
  if (source->second.tag.empty() || IsOver(source->second.reading.get())) sources_.erase(source);
}

// The last writer may be no process of ours: then this process must not be the last to close the
// pipe.
void LogSources::LetGo(Place source, std::vector<uint32_t>& let_go) {
  auto& [id, of] = *source;
  if (of.told) {
    let_go.push_back(id);
    let_go_[id] = of.owner;
    if (let_go_.size() > kMaxEnded) let_go_.erase(let_go_.begin());
  }
  if (!IsOver(of.reading.get())) {
    std::vector<UniqueFd> list;
    list.push_back(std::move(of.reading));
    CloseElsewhere(std::move(list), of.owner);
  }
  sources_.erase(source);
}

bool LogSources::IsOutlived(Source& source) {
  pollfd state{source.reading.get(), 0, 0};
  const bool has_writer = poll(&state, 1, 0) == 0;
  return source.kind == Kind::kRole && source.ended && has_writer &&
         std::exchange(source.outlived, true);
}

size_t LogSources::CountEnded() const {
  return static_cast<size_t>(
      std::ranges::count_if(sources_, [](const auto& source) { return source.second.ended; }));
}

std::vector<uint32_t> LogSources::Untold() const {
  std::vector<uint32_t> ids;
  for (const auto& [id, source] : sources_) {
    if (!source.told && !source.held && !source.tag.empty()) ids.push_back(id);
  }
  return ids;
}

absl::StatusOr<supervision::LogSource> LogSources::Message(uint32_t id) const {
  const Source& source = sources_.at(id);
  UniqueFd copy(fcntl(source.reading.get(), F_DUPFD_CLOEXEC, 0));
  if (!copy) return ErrnoStatus("copying a descriptor");
  return supervision::LogSource{
      .id = id, .kind = source.kind, .tag = source.tag, .pipe = std::move(copy)};
}

void LogSources::Told(uint32_t id) { sources_.at(id).told = true; }

void LogSources::ToldNobody() {
  let_go_.clear();
  for (auto& [id, source] : sources_) source.told = false;
}

std::optional<std::string> LogSources::Hold(uint32_t id) {
  if (const auto gone = let_go_.find(id); gone != let_go_.end()) return gone->second;
  const auto source = sources_.find(id);
  if (source == sources_.end()) return std::nullopt;
  source->second.held = true;
  if (source->second.on_held) source->second.on_held();
  return source->second.owner;
}

void LogSources::Slow(uint32_t id) {
  const auto source = sources_.find(id);
  if (source != sources_.end() && source->second.on_held) source->second.on_held();
}

void LogSources::Release(uint32_t id) {
  const auto source = sources_.find(id);
  if (source != sources_.end()) source->second.held = false;
}

std::vector<uint32_t> LogSources::Sweep() {
  std::erase_if(sources_, [](const auto& source) {
    return source.second.ended && IsOver(source.second.reading.get());
  });
  std::vector<uint32_t> let_go;
  for (auto next = sources_.begin(); next != sources_.end();) {
    const auto source = next++;
    if (IsOutlived(source->second)) LetGo(source, let_go);
  }
  for (auto next = sources_.begin(); next != sources_.end() && CountEnded() > kMaxLeftOpen;) {
    const auto oldest = next++;
    if (oldest->second.ended && oldest->second.told) LetGo(oldest, let_go);
  }
  return let_go;
}

void LogSources::LetGoOfAll() {
  std::vector<uint32_t> let_go;
  while (!sources_.empty()) LetGo(sources_.begin(), let_go);
}

}  // namespace tlsbroker::supervisor
