// SPDX-License-Identifier: Apache-2.0
// A generation of a service: one keyholder and its handshakers, started from one setup, replaced
// together, ended together. While it serves, the number of its handshakers changes, and one that
// ended or hangs is replaced by itself; without its keyholder a generation is of no use. Runs in
// the supervisor.

#ifndef TLSBROKER_BROKER_SUPERVISOR_GENERATION_H_
#define TLSBROKER_BROKER_SUPERVISOR_GENERATION_H_

#include <asio/any_io_executor.hpp>
#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "broker/supervisor/log_sources.h"
#include "broker/supervisor/programs.h"
#include "broker/supervisor/role_process.h"
#include "broker/supervisor/setup.h"
#include "broker/supervisor/snapshot.h"
#include "broker/supervisor/ticket_keys.h"
#include "protocol/counters.h"
#include "protocol/facts.h"

namespace tlsbroker::supervisor {

class Generation : public std::enable_shared_from_this<Generation> {
 public:
  // The time from the start to the Ready of the slowest child.
  static constexpr std::chrono::milliseconds kReadyTimeout{60'000};
  // The time from Drain() to the Draining of the slowest handshaker, which may be in the middle of
  // something else.
  static constexpr std::chrono::milliseconds kDrainingTimeout{3'000};
  static constexpr std::chrono::milliseconds kEndTimeout = RoleProcess::kEndTimeout;
  // How many handshakers that accept no more may stay for their relayed connections; beyond that
  // the oldest is ended. Without this limit a handshaker that was taken over could ask for a
  // successor and stay, and so could the successor.
  static constexpr size_t kMaxLeaving = 16;

  // `changed` is called after every change of what the functions below tell. Ticket keys and
  // programs outlive the generation. The processes write their log into `log`, or to our standard
  // error if it is null.
  Generation(const asio::any_io_executor& executor, uint32_t number,
             std::shared_ptr<const ServiceSetup> setup, const TicketKeyRing& ticket_keys,
             const Programs& programs, std::shared_ptr<LogSources> log,
             std::function<void()> changed);

  // Begins to start the processes, which goes on in the event loop. Without handshakers it only
  // checks keys.
  absl::Status Start(uint32_t handshakers);

  uint32_t number() const { return number_; }
  Clock::time_point started() const { return started_; }
  const std::shared_ptr<const ServiceSetup>& setup() const { return setup_; }  // null once drained
  // Takes an equal setup, from a later reload.
  void Renew(std::shared_ptr<const ServiceSetup> setup) { setup_ = std::move(setup); }

  // The keyholder, and all handshakers that the generation began with, are ready. Stays true from
  // then on.
  bool ready();
  // Before the generation was ready: a child ended or hangs. Later: the keyholder did.
  bool broken() const;
  // Why a child could not start, if it said so.
  std::optional<supervision::Failed> failed() const;
  absl::Status start_error() const;  // why its program could not be started

  bool accepts() const { return accepts_; }
  bool listeners_closed() const;  // after Drain(), in all handshakers
  bool handshakers_gone() const;
  bool gone() const;
  bool left_behind() const;  // gone, but for processes that cannot be ended
  // Sums over the handshakers, those that have ended included.
  supervision::Counters counters() const;
  const std::string& last_reason() const { return last_reason_; }
  // What the first handshaker found out; all find the same.
  const supervision::Facts& facts() const { return facts_; }
  std::vector<std::shared_ptr<const RoleProcess>> processes() const;  // those that are there

  // Handshakers that serve or are about to.
  uint32_t handshakers() const;
  // The heartbeats of those that serve.
  std::vector<supervision::Heartbeat> heartbeats() const;
  // A handshaker ended or hangs, or has asked for a successor, since the last call.
  bool TakeLoss() { return std::exchange(loss_, false); }
  uint64_t hung() const { return hung_; }  // processes, so far
  absl::Status AddHandshaker();
  // The newest handshaker stops accepting and leaves when it is idle, however long that takes.
  void RetireHandshaker();

  // Sends Accept to all handshakers, and to those to come, which accept from then on.
  void Accept();
  void SendTicketKeys();
  // Stops serving for good. The generation gives up its setup, and with it the listeners that no
  // other generation has. The handshakers stop accepting and leave when they are idle, at the
  // latest after `deadline`. The keyholder stays for their handshakes until EndKeyholder().
  void Drain(std::chrono::milliseconds deadline);
  void EndKeyholder();
  // SIGKILL to all.
  void Kill();
  // Looks for processes that hang and that have ended. To be called every RoleProcess::kLookPeriod.
  void Look(Clock::time_point now);

 private:
  struct Child {
    bool is_keyholder = false;
    uint16_t index = 0;
    std::shared_ptr<RoleProcess> process;
    bool accepts = false;  // was told to accept
    bool draining = false;
    bool wants_successor = false;
    bool lost = false;      // the process is lost, and that was noticed
    bool too_many = false;  // the process is one too many, and that was noticed
    supervision::Counters counters;
    bool serves() const { return !process->lost() && !process->told_to_end() && !wants_successor; }
  };

  Child& NewChild(bool is_keyholder, uint16_t index, std::string role, const std::string& program);
  absl::Status StartHandshaker(uint32_t of);
  absl::StatusOr<std::unique_ptr<LogPipe>> OpenLog() const;
  void OnChange(Child& child);
  bool Handle(Child& child, supervision::Message message);
  void Take(const Child& child, supervision::Facts facts);
  supervision::Connected ConnectFor(const supervision::Connect& connect) const;
  static void TellToDrain(Child& child, std::chrono::milliseconds deadline);
  void Tell(const supervision::Encoded& message);  // all handshakers
  void ShareLimits();
  void EndTooManyLeaving();
  template <typename Predicate>
  bool All(Predicate predicate) const;

  asio::any_io_executor executor_;
  const uint32_t number_;
  const Clock::time_point started_ = Clock::now();
  std::shared_ptr<const ServiceSetup> setup_;
  std::vector<handoff::Endpoint> upstreams_;  // their addresses; handshakers that drain still ask
  const TicketKeyRing& ticket_keys_;
  const Programs& programs_;
  const std::shared_ptr<LogSources> log_;
  const std::function<void()> changed_;
  std::vector<std::unique_ptr<Child>> children_;
  uint16_t next_index_ = 0;
  bool ready_ = false;
  bool accepts_ = false;
  bool loss_ = false;
  uint64_t hung_ = 0;
  supervision::Counters past_;  // of handshakers that have ended
  std::string last_reason_;
  supervision::Facts facts_;
};

}  // namespace tlsbroker::supervisor

#endif  // TLSBROKER_BROKER_SUPERVISOR_GENERATION_H_
