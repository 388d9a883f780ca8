#include "broker/supervisor/check.h"

#include <asio/co_spawn.hpp>
#include <asio/detached.hpp>
#include <asio/io_context.hpp>
#include <utility>

#include "broker/supervisor/event_loop.h"
#include "broker/supervisor/generation.h"
#include "broker/supervisor/start_failure.h"

namespace tlsbroker::supervisor {
namespace {

asio::awaitable<void> AwaitKeyholder(Generation& keyholder, Event& changed) {
  const Clock::time_point deadline = Clock::now() + Generation::kReadyTimeout;
  while (!keyholder.ready() && !keyholder.broken() && Clock::now() < deadline)
    co_await changed.Wait(deadline);
  keyholder.EndKeyholder();
  while (!keyholder.gone()) co_await changed.Wait();
}

void CheckKeys(Setup setup, Diagnostics& diagnostics) {
  asio::io_context io(1);
  Event changed(io.get_executor());
  const TicketKeyRing no_tickets;
  const auto shared = std::make_shared<const Setup>(std::move(setup));
  // A generation without handshakers.
  const auto keyholder = std::make_shared<Generation>(io.get_executor(), 0, shared, no_tickets,
                                                      [&changed] { changed.Notify(); });
  const absl::Status started = keyholder->Start(FindPrograms());
  if (!started.ok()) {
    diagnostics.Error({}, "the keyholder does not start: " + std::string(started.message()),
                      "a complete installation is needed");
    return;
  }
  asio::co_spawn(io, AwaitKeyholder(*keyholder, changed), asio::detached);
  io.run();
  if (keyholder->failed() && BlameConfig(*keyholder->failed(), shared->config, diagnostics)) return;
  if (!keyholder->ready()) {
    diagnostics.Error({}, "the keyholder could not check the keys", "its log says why");
  }
}

}  // namespace

void CheckConfiguration(Diagnostics& diagnostics) {
  Setup setup = CheckSetup(diagnostics);
  if (diagnostics.failed()) return;
  setup.config.broker.log_level = log::Level::kError;
  CheckKeys(std::move(setup), diagnostics);
}

}  // namespace tlsbroker::supervisor
