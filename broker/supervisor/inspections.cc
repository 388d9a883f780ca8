// SPDX-License-Identifier: Apache-2.0
#include "broker/supervisor/inspections.h"

#include <chrono>
#include <map>
#include <set>
#include <utility>

#include "broker/supervisor/certificate_report.h"
#include "broker/supervisor/event_loop.h"
#include "broker/supervisor/role_process.h"
#include "broker/supervisor/snapshot.h"
#include "broker/support/status.h"
#include "protocol/supervision.h"

namespace tlsbroker::supervisor {
namespace {

// For the slowest keyholder; a file may be on a slow file system.
constexpr std::chrono::milliseconds kTimeout{60'000};

using Work = std::vector<std::shared_ptr<Credential>>;

// One keyholder that looks at the certificates of one service.
struct Inspector {
  std::shared_ptr<RoleProcess> process;
  Work work;  // the index is the id
  std::vector<std::vector<uint8_t>> pieces;
  std::vector<bool> done;
};

// Outlives the coroutine as long as a process of it may still say something.
struct Inspectors {
  explicit Inspectors(const asio::any_io_executor& executor) : changed(executor) {}

  bool AllAre(auto condition) const {
    return std::ranges::all_of(list, [&](const auto& one) { return condition(*one->process); });
  }
  void Look() {
    for (const auto& one : list) one->process->Look(Clock::now());
  }

  Event changed;
  std::vector<std::unique_ptr<Inspector>> list;
};

// False for what no keyholder says that was not taken over.
bool Take(Inspector& inspector, const supervision::Inspected& message) {
  if (message.id >= inspector.work.size() || inspector.done[message.id]) return false;
  std::vector<uint8_t>& bytes = inspector.pieces[message.id];
  bytes.insert(bytes.end(), message.piece.begin(), message.piece.end());
  if (bytes.size() > supervision::kMaxFacts) return false;
  if (!message.last) return true;
  auto facts = supervision::DecodeFacts(bytes);
  if (!facts) return false;
  Credential& credential = *inspector.work[message.id];
  credential.chain_pem = std::move(facts->chain_pem);
  credential.facts = *std::move(facts);
  inspector.done[message.id] = true;
  std::vector<uint8_t>().swap(bytes);
  return true;
}

absl::StatusOr<supervision::Inspect> MessageFor(uint16_t id, const Credential& credential) {
  supervision::Inspect message;
  message.id = id;
  message.key_uri = credential.key_uri;
  ASSIGN_OR_RETURN(message.chain, Duplicate(credential.chain_file.get()));
  message.has_key_file = credential.key_file && !credential.one_file;
  if (message.has_key_file) {
    ASSIGN_OR_RETURN(message.key_file, Duplicate(credential.key_file.get()));
  }
  message.has_passphrase = credential.passphrase.valid();
  if (message.has_passphrase) {
    ASSIGN_OR_RETURN(message.passphrase, Duplicate(credential.passphrase.get()));
  }
  return message;
}

absl::Status Start(const asio::any_io_executor& executor, const ServiceSetup& service, Work work,
                   const InspectionContext& context, const std::shared_ptr<Inspectors>& all) {
  Snapshot snapshot;
  snapshot.push_back(ConfinementOf(service.account));
  for (size_t i = 0; i < work.size(); ++i) {
    ASSIGN_OR_RETURN(supervision::Inspect message, MessageFor(static_cast<uint16_t>(i), *work[i]));
    snapshot.push_back(std::move(message));
  }
  snapshot.push_back(supervision::Start{});
  std::unique_ptr<LogPipe> log;
  if (context.log) {
    ASSIGN_OR_RETURN(log, context.log->Open(LogSources::Kind::kRole, service.name()));
  }
  auto owned = std::make_unique<Inspector>();
  Inspector& inspector = *owned;
  inspector.pieces.resize(work.size());
  inspector.done.resize(work.size());
  inspector.work = std::move(work);
  // The keyholder that serves says the rest, such as that its memory is not locked.
  inspector.process = std::make_shared<RoleProcess>(
      executor,
      RoleProcess::Spec{.role = "inspector",
                        .service = service.name(),
                        .generation = 0,
                        .program = context.programs.keyholder,
                        .environment = ChildEnvironment(log::Level::kError),
                        .says = supervision::kFromKeyholder},
      [weak = std::weak_ptr(all), &inspector](const supervision::Message& message) {
        const auto alive = weak.lock();
        const auto* inspected = std::get_if<supervision::Inspected>(&message);
        return alive && inspected != nullptr && Take(inspector, *inspected);
      },
      [weak = std::weak_ptr(all)] {
        if (const auto alive = weak.lock()) alive->changed.Notify();
      });
  inspector.process->Start(std::move(snapshot), std::move(log));
  all->list.push_back(std::move(owned));
  return absl::OkStatus();
}

bool SameFiles(const Credential& a, const Credential& b) {
  return a.one_file == b.one_file && a.key_uri == b.key_uri && a.key_identity == b.key_identity &&
         a.chain_identity == b.chain_identity;
}

// What is known already.
void TakeOver(const Setup& setup, const Setup* previous, std::set<const Credential*>& known) {
  if (previous == nullptr) return;
  std::map<std::string, const Credential*> before;
  for (const auto& service : previous->services)
    for (const auto& certificate : service->certificates)
      before[certificate.config.name.value] = certificate.credential.get();
  std::map<const Credential*, std::string> names;
  for (const auto& service : setup.services)
    for (const auto& certificate : service->certificates)
      names[certificate.credential.get()] = certificate.config.name.value;
  for (const auto& credential : setup.credentials) {
    const auto same = before.find(names[credential.get()]);
    if (same == before.end() || !SameFiles(*credential, *same->second)) continue;
    if (same->second->chain_pem.empty()) continue;
    credential->chain_pem = same->second->chain_pem;
    credential->facts = same->second->facts;
    known.insert(credential.get());
  }
}

// Each certificate is the work of the first service that has it. Takes it out of `unknown`.
Work WorkOf(const ServiceSetup& service,
            std::map<const Credential*, std::shared_ptr<Credential>>& unknown) {
  Work work;
  for (const auto& certificate : service.certificates) {
    auto taken = unknown.extract(certificate.credential.get());
    if (taken) work.push_back(std::move(taken.mapped()));
  }
  return work;
}

// What else such a keyholder has said is not believed.
void SayWhatFailed(const Inspectors& all, Diagnostics& diagnostics) {
  for (const auto& inspector : all.list) {
    if (std::ranges::count(inspector->done, false) == 0 && inspector->process->ready()) continue;
    for (const auto& credential : inspector->work) {
      credential->chain_pem.clear();
      credential->facts = {};
    }
    const auto& failed = inspector->process->failed();
    std::string why = "it did not answer";
    if (failed) why = failed->text;
    if (!inspector->process->start_error().ok())
      why = std::string(inspector->process->start_error().message());
    diagnostics.Error({},
                      "the certificates of service \"" + inspector->process->spec().service +
                          "\" could not be looked at: " + why,
                      "the log may say more; a complete installation is needed");
  }
}

}  // namespace

asio::awaitable<std::vector<std::string>> InspectCertificates(const asio::any_io_executor& executor,
                                                              const Setup& setup,
                                                              const Setup* previous,
                                                              const InspectionContext& context,
                                                              Diagnostics& diagnostics) {
  const auto all = std::make_shared<Inspectors>(executor);
  std::set<const Credential*> known;
  TakeOver(setup, previous, known);
  std::map<const Credential*, std::shared_ptr<Credential>> unknown;
  for (const auto& credential : setup.credentials)
    if (!known.contains(credential.get())) unknown.emplace(credential.get(), credential);
  for (const auto& service : setup.services) {
    Work work = WorkOf(*service, unknown);
    if (work.empty()) continue;
    const absl::Status started = Start(executor, *service, std::move(work), context, all);
    if (started.ok()) continue;
    diagnostics.Error({}, "a keyholder does not start: " + std::string(started.message()),
                      "more descriptors (LimitNOFILE=) may help");
  }
  const Clock::time_point deadline = Clock::now() + kTimeout;
  const auto answered = [](const RoleProcess& process) {
    return process.ready() || process.lost() || process.gone();
  };
  const auto gone = [](const RoleProcess& process) { return process.gone(); };
  while (!all->AllAre(answered) && !context.give_up() && Clock::now() < deadline) {
    all->Look();
    co_await all->changed.Wait(Clock::now() + RoleProcess::kLookPeriod);
  }
  for (const auto& inspector : all->list) {
    if (answered(*inspector->process)) {
      inspector->process->End();
    } else {
      inspector->process->Kill();
    }
  }
  while (!all->AllAre(gone)) {
    all->Look();
    co_await all->changed.Wait(Clock::now() + RoleProcess::kLookPeriod);
  }
  SayWhatFailed(*all, diagnostics);
  // The key's file stays open, for a keyholder that has to be started again; what is in this one is
  // known.
  for (const auto& credential : setup.credentials) credential->chain_file.Reset();
  co_return ReportCertificates(setup, known, std::chrono::system_clock::now(), diagnostics);
}

}  // namespace tlsbroker::supervisor
