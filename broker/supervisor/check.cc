// SPDX-License-Identifier: Apache-2.0
#include "broker/supervisor/check.h"

#include <asio/co_spawn.hpp>
#include <asio/io_context.hpp>
#include <utility>

#include "broker/supervisor/event_loop.h"
#include "broker/supervisor/generation.h"
#include "broker/supervisor/inspections.h"
#include "broker/supervisor/privileges.h"
#include "broker/supervisor/start_failure.h"
#include "broker/support/coroutines.h"

namespace tlsbroker::supervisor {
namespace {

// Waits until all processes are ready, one has failed or is too late, and ends them in any case.
asio::awaitable<void> AwaitGeneration(Generation& generation, Event& changed) {
  const Clock::time_point deadline = Clock::now() + Generation::kReadyTimeout;
  while (!generation.ready() && !generation.broken() && Clock::now() < deadline)
    co_await changed.Wait(deadline);
  generation.Drain(std::chrono::milliseconds(0));
  generation.EndKeyholder();
  while (!generation.gone()) co_await changed.Wait();
}

// Starts a generation that accepts nothing: it loads keys and certificates as handshakes use them.
void TryToStart(const std::shared_ptr<const ServiceSetup>& service, const Programs& programs,
                Diagnostics& diagnostics) {
  asio::io_context io(1);
  Event changed(io.get_executor());
  TicketKeyRing tickets;
  absl::Status started = tickets.Rotate();
  const auto generation =
      std::make_shared<Generation>(io.get_executor(), 0, service, tickets, programs,
                                   /*log=*/nullptr, [&changed] { changed.Notify(); });
  if (started.ok()) started = generation->Start(/*handshakers=*/1);
  if (started.ok()) {
    asio::co_spawn(io, AwaitGeneration(*generation, changed), EndsProcess());
    io.run();
    started = generation->start_error();
  }
  if (!started.ok()) {
    diagnostics.Error({}, "a process does not start: " + std::string(started.message()),
                      "a complete installation is needed");
    return;
  }
  const auto failed = generation->failed();
  if (failed && BlameConfig(*failed, *service, diagnostics)) return;
  if (generation->ready()) return;
  diagnostics.Error({},
                    "service \"" + service->name() +
                        "\" does not start: " + (failed ? failed->text : "a process ended"),
                    "its log says why");
}

// What a start needs and nobody uses here. That the kernel can do what the service requires is
// another matter, and perhaps one of another machine.
std::shared_ptr<const ServiceSetup> ToTry(const ServiceSetup& service, Diagnostics& diagnostics) {
  ServiceSetup quiet = service;
  quiet.log_level = log::Level::kError;
  quiet.config.terms.ktls = supervision::KtlsMode::kPrefer;
  auto queue = Queue::Open(quiet.config.backlog.value, quiet.name());
  if (!queue.ok()) {
    diagnostics.Error(quiet.config.backlog.position,
                      "the queue cannot be made: " + std::string(queue.status().message()),
                      "more descriptors (LimitNOFILE=) or a smaller backlog may help");
    return nullptr;
  }
  quiet.queue = std::make_shared<Queue>(*std::move(queue));
  return std::make_shared<const ServiceSetup>(std::move(quiet));
}

std::vector<std::string> LookAtCertificates(const Setup& setup, const Programs& programs,
                                            Diagnostics& diagnostics) {
  asio::io_context io(1);
  const asio::any_io_executor executor = io.get_executor();
  const InspectionContext context{
      .programs = programs, .log = nullptr, .give_up = [] { return false; }};
  std::vector<std::string> lines;
  const auto run = [&]() -> asio::awaitable<void> {
    lines = co_await InspectCertificates(executor, setup, nullptr, context, diagnostics);
    io.stop();  // a process that cannot be ended is not waited for
  };
  asio::co_spawn(io, run, EndsProcess());
  io.run();
  return lines;
}

// Whoever runs the check has more rights than the broker has under its unit.
void WarnOfUnreadable(const Config& config, Diagnostics& diagnostics) {
  const auto check = [&diagnostics](const At<Source>& source) {
    if (source.value.kind != Source::Kind::kPath || CanReadWithoutPower(source.value.text)) return;
    diagnostics.Warning(
        source.position,
        "\"" + source.value.text +
            "\" can be read here, but not by a broker under tlsbroker.service, "
            "which has no power over the files of others",
        "chown it to root, give root's group the right to read it, or run the broker as "
        "its owner (tlsbroker-attached.service)");
  };
  for (const CertificateConfig& certificate : config.certificates) {
    check(certificate.key);
    if (!certificate.one_file) check(certificate.chain);
    if (certificate.passphrase) check(*certificate.passphrase);
  }
}

}  // namespace

Checked CheckConfiguration(Diagnostics& diagnostics) {
  const Setup setup = CheckSetup(diagnostics);
  if (diagnostics.failed()) return {};
  WarnOfUnreadable(setup.config, diagnostics);
  const Programs programs = FindPrograms();
  Checked checked{.certificates = LookAtCertificates(setup, programs, diagnostics),
                  .files = setup.config.files};
  if (diagnostics.failed()) return checked;
  for (const auto& service : setup.services) {
    const auto quiet = ToTry(*service, diagnostics);
    if (quiet) TryToStart(quiet, programs, diagnostics);
  }
  return checked;
}

}  // namespace tlsbroker::supervisor
