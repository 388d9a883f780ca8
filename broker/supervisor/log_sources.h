// SPDX-License-Identifier: Apache-2.0
// The pipes that processes write their log into, as far as the supervisor has to do with them: it
// makes them, gives the reading ends to a logger, and keeps copies of them as long as somebody may
// write, so that writers notice nothing when a logger ends. It reads none of them. Runs in the
// supervisor.
//
// The supervisor must not be the last to close one, either. close(2) of the last descriptor of a
// reading end waits for the lock of the pipe, and whoever splices into the pipe from a socket
// without data holds that lock as long as he likes: a worker, or a process to which a handshaker
// that was taken over has sent its standard error. So a copy is closed when no writer is left,
// which poll(2) tells without that lock, or by CloseElsewhere().

#ifndef TLSBROKER_BROKER_SUPERVISOR_LOG_SOURCES_H_
#define TLSBROKER_BROKER_SUPERVISOR_LOG_SOURCES_H_

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "protocol/message.h"
#include "protocol/modes.h"
#include "protocol/unique_fd.h"

namespace tlsbroker::supervisor {

class LogSources;

// The pipe that one process writes its log into, from before the process is started until it is
// gone.
class LogPipe {
 public:
  LogPipe(std::shared_ptr<LogSources> sources, uint32_t id, UniqueFd writing);
  LogPipe(const LogPipe&) = delete;
  LogPipe& operator=(const LogPipe&) = delete;
  ~LogPipe();

  int writing() const { return writing_.get(); }
  // From now on a logger reads the pipe and puts `tag` in front of its lines (LogSource::tag).
  // Before that nobody reads it.
  void Name(std::string tag);
  // To be called when the process has the writing end. Until then, the pipe has a writer in any
  // case.
  // So that a worker can open /dev/stdout and /dev/stderr, links to its descriptors, although the
  // pipe is root's. It gets a writing end of its own pipe, which it has already. It cannot open the
  // reading end, nor change these rights.
  absl::Status LetWorkerOpen();
  void CloseWriting() { writing_.Reset(); }
  // `held` is called when a logger hangs in this pipe.
  void OnHeld(std::function<void()> held);

 private:
  const std::shared_ptr<LogSources> sources_;
  const uint32_t id_;
  UniqueFd writing_;
};

// The pipes of one logger.
class LogSources : public std::enable_shared_from_this<LogSources> {
 public:
  using Kind = supervision::LogSourceKind;
  // How many pipes are kept whose process has ended, while others that it started still have the
  // writing end.
  static constexpr size_t kMaxLeftOpen = 16;
  // How many of those there may be while no logger runs that could take over what is too much. Then
  // no pipe is opened any more.
  static constexpr size_t kMaxEnded = 64;

  // `changed` is called when there is another pipe, or something to tell the logger.
  explicit LogSources(std::function<void()> changed) : changed_(std::move(changed)) {}

  // The writing end of a worker waits for room, since programs do not expect anything else. Those
  // of our own processes do not (support/log.h). `owner` is the service whose process writes.
  absl::StatusOr<std::unique_ptr<LogPipe>> Open(Kind kind, const std::string& owner);

  // There are no pipes: nobody writes, and nobody is about to.
  bool empty() const { return sources_.empty(); }

  // For the logger: the pipes that it has not been told of.
  std::vector<uint32_t> Untold() const;
  absl::StatusOr<supervision::LogSource> Message(uint32_t id) const;
  void Told(uint32_t id);
  // There is another logger, which has been told of no pipe.
  void ToldNobody();

  // A logger hangs in this pipe: no other logger is told of it before Release(). Returns the pipe's
  // owner; nullopt if there is no such pipe.
  std::optional<std::string> Hold(uint32_t id);
  void Release(uint32_t id);
  // A logger says that it nearly hangs in this pipe, again and again.
  void Slow(uint32_t id);

  // Closes the pipes that nobody can write to any more; those whose process of ours has ended while
  // somebody still has the writing end, which the process must have sent, since our processes start
  // nothing; and the oldest that workers have left open. Returns the pipes that the logger has,
  // too, and has to close.
  std::vector<uint32_t> Sweep();
  // Closes all pipes, at the end.
  void LetGoOfAll();

 private:
  friend class LogPipe;
  struct Source {
    UniqueFd reading;
    Kind kind = Kind::kRole;
    std::string owner;
    std::string tag;  // empty until it is named
    std::function<void()> on_held;
    bool told = false;
    bool held = false;
    // Set when it is seen once that somebody has the writing end after the process has ended: a
    // process that is just being started has it for a moment.
    bool outlived = false;
    bool ended = false;
  };

  void Name(uint32_t id, std::string tag);
  void Ended(uint32_t id);
  size_t CountEnded() const;

  using Place = std::map<uint32_t, Source>::iterator;
  bool IsOutlived(Source& source);
  void LetGo(Place source, std::vector<uint32_t>& let_go);

  const std::function<void()> changed_;
  std::map<uint32_t, Source> sources_;
  // Pipes that were closed here, but in which the logger may still be, and whose they were.
  std::map<uint32_t, std::string> let_go_;
  uint32_t next_id_ = 0;
};

}  // namespace tlsbroker::supervisor

#endif  // TLSBROKER_BROKER_SUPERVISOR_LOG_SOURCES_H_
