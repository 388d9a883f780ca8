// A generation: one keyholder and its handshakers, started together from one setup, replaced
// together, ended together. Runs in the supervisor.

#ifndef TLSBROKER_BROKER_SUPERVISOR_GENERATION_H_
#define TLSBROKER_BROKER_SUPERVISOR_GENERATION_H_

#include <asio/any_io_executor.hpp>
#include <asio/awaitable.hpp>
#include <asio/steady_timer.hpp>
#include <chrono>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "broker/supervisor/child_process.h"
#include "broker/supervisor/control.h"
#include "broker/supervisor/programs.h"
#include "broker/supervisor/setup.h"
#include "broker/supervisor/snapshot.h"
#include "broker/supervisor/ticket_keys.h"

namespace tlsbroker::supervisor {

class Generation : public std::enable_shared_from_this<Generation> {
 public:
  // From the start to Ready of the slowest child.
  static constexpr std::chrono::milliseconds kReadyTimeout{60'000};
  // From Drain() to Draining of the slowest handshaker: it is in the middle of something else.
  static constexpr std::chrono::milliseconds kDrainingTimeout{3'000};
  // From the end of file on its control channel, or the end of its drain, to SIGKILL.
  static constexpr std::chrono::milliseconds kEndTimeout{5'000};

  // `changed` is called after every change of what the functions below tell. Setup and ticket keys
  // outlive the generation.
  Generation(const asio::any_io_executor& executor, uint32_t number,
             std::shared_ptr<const Setup> setup, const TicketKeyRing& ticket_keys,
             std::function<void()> changed);

  // Starts all processes; what they then do goes on in the event loop.
  absl::Status Start(const Programs& programs);

  uint32_t number() const { return number_; }
  const std::shared_ptr<const Setup>& setup() const { return setup_; }  // null once drained

  bool ready() const;                      // all children
  bool broken() const { return broken_; }  // a child ended without having been told to
  // Why a child could not start, as far as it said so.
  const std::optional<supervision::Failed>& failed() const { return failed_; }
  bool listeners_closed() const;  // after Drain(), in all handshakers
  bool handshakers_gone() const;
  bool gone() const;
  // Sums over the handshakers, dead ones included.
  supervision::Counters counters() const;
  // The same for one service; the reason is one of the last ones.
  supervision::ServiceCounters service_counters(uint16_t service_id) const;
  // What the first handshaker found out; all find the same.
  const supervision::Facts& facts() const { return facts_; }

  struct ProcessState {
    std::string name;
    pid_t pid = 0;
    const char* state = "";  // "starting", "serving", "ending"
    supervision::Counters counters;
  };
  std::vector<ProcessState> processes() const;

  // To all handshakers. They accept from then on.
  void Accept();
  void SendTicketKeys();
  // For good: with its setup go the listeners that no other generation has.
  // The handshakers stop accepting and leave when they are idle, at the latest after `deadline`.
  // The keyholder stays for their handshakes until EndKeyholder().
  void Drain(std::chrono::milliseconds deadline);
  void EndKeyholder();
  // SIGKILL to all.
  void Kill();

 private:
  struct Child {
    std::string name;  // in the log
    bool is_keyholder = false;
    std::shared_ptr<ChildProcess> process;
    ControlChannel control;
    bool ready = false;
    bool told_to_end = false;
    bool draining = false;
    bool gone = false;
    supervision::Counters counters;
    std::map<uint16_t, supervision::ServiceCounters> service_counters;
  };

  absl::Status StartChild(const std::string& program, std::string name, bool is_keyholder,
                          Snapshot snapshot);
  asio::awaitable<void> RunChild(Child& child, Snapshot snapshot);
  asio::awaitable<bool> SendSnapshot(Child& child, const Snapshot& snapshot);
  bool Handle(Child& child, supervision::Message message);
  supervision::Connected ConnectFor(const supervision::Connect& connect) const;
  bool HandleBeforeReady(Child& child, supervision::Message message);
  void Tell(const supervision::Message& message);  // all handshakers
  void End(Child& child);

  asio::any_io_executor executor_;
  const uint32_t number_;
  std::shared_ptr<const Setup> setup_;
  std::vector<handoff::Endpoint> upstreams_;  // their addresses; handshakers that drain still ask
  const TicketKeyRing& ticket_keys_;
  const std::function<void()> changed_;
  std::vector<std::unique_ptr<Child>> children_;
  std::optional<supervision::Failed> failed_;
  supervision::Facts facts_;
  bool broken_ = false;
};

}  // namespace tlsbroker::supervisor

#endif  // TLSBROKER_BROKER_SUPERVISOR_GENERATION_H_
