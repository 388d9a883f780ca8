#include "broker/supervisor/attach.h"

#include <grp.h>
#include <pwd.h>
#include <unistd.h>

#include <algorithm>
#include <asio/co_spawn.hpp>
#include <asio/detached.hpp>
#include <bit>
#include <cerrno>
#include <chrono>
#include <span>
#include <utility>

#include "broker/support/log.h"
#include "broker/support/status.h"
#include "protocol/channel.h"

namespace tlsbroker::supervisor {
namespace {

// Without a free descriptor the listener stays readable: look again when there may be one.
constexpr std::chrono::milliseconds kPause{100};

std::string Describe(const std::string& service, const Peer& peer) {
  return log::Field("service", service) + log::Field("pid", std::to_string(peer.pid)) +
         log::Field("uid", std::to_string(peer.uid));
}

}  // namespace

AllowList AllowList::Of(const ServiceConfig& service) {
  AllowList list;
  for (const auto& user : service.allow_users) {
    if (const passwd* entry = getpwnam(user.value.c_str())) list.users.push_back(entry->pw_uid);
  }
  for (const auto& group : service.allow_groups) {
    if (const ::group* entry = getgrnam(group.value.c_str())) list.groups.push_back(entry->gr_gid);
  }
  return list;
}

bool AllowList::Allows(const Peer& peer) const {
  if (peer.uid == 0 || peer.uid == geteuid()) return true;
  if (std::ranges::find(users, peer.uid) != users.end()) return true;
  return std::ranges::find_first_of(groups, peer.groups) != groups.end();
}

absl::StatusOr<std::shared_ptr<AttachPoint>> AttachPoint::Open(
    const asio::any_io_executor& executor, const std::string& runtime_dir,
    const std::string& service, AllowList allowed, std::shared_ptr<Queue> queue) {
  // Who is welcome the kernel's answer decides, not the mode: there may be several groups.
  ASSIGN_OR_RETURN(UnixListener listener,
                   UnixListener::Open(runtime_dir + "/" + service + ".sock", SOCK_SEQPACKET, 0666));
  return std::shared_ptr<AttachPoint>(new AttachPoint(executor, std::move(listener), service,
                                                      std::move(allowed), std::move(queue)));
}

AttachPoint::AttachPoint(const asio::any_io_executor& executor, UnixListener listener,
                         std::string service, AllowList allowed, std::shared_ptr<Queue> queue)
    : executor_(executor),
      listener_(std::move(listener)),
      watch_(executor, listener_->get()),
      service_(std::move(service)),
      allowed_(std::move(allowed)),
      queue_(std::move(queue)) {}

void AttachPoint::Start() { asio::co_spawn(executor_, Accept(), asio::detached); }

void AttachPoint::Change(AllowList allowed, std::shared_ptr<Queue> queue) {
  allowed_ = std::move(allowed);
  queue_ = std::move(queue);
}

void AttachPoint::Close() {
  watch_.Cancel();
  listener_.reset();
}

asio::awaitable<void> AttachPoint::Accept() {
  const auto self = shared_from_this();
  Event pause(executor_);
  for (;;) {
    const bool readable = co_await watch_.Readable();
    if (!readable || !listener_) co_return;
    UniqueFd socket = listener_->Accept();
    const bool full = !socket && (errno == EMFILE || errno == ENFILE || errno == ENOMEM);
    if (socket) Welcome(std::move(socket));
    if (full) co_await pause.Wait(Clock::now() + kPause);
  }
}

void AttachPoint::Welcome(UniqueFd socket) {
  auto peer = Peer::Of(socket.get());
  if (!peer.ok()) return log::Error(service_ + ": " + std::string(peer.status().message()));
  const attach::Answer answer = AnswerTo(*peer);
  const auto header = attach::Encode(answer);
  if (answer != attach::Answer::kAttached) {
    LogRefusal(*peer, answer);
    (void)channel::Send(socket.get(), header, {}, /*dont_wait=*/true);
    return;
  }
  const int queue[] = {queue_->receiving(), queue_->requesting()};
  if (channel::Send(socket.get(), header, queue, /*dont_wait=*/true) != channel::Result::kOk) {
    return;
  }
  log::Info("attached a worker" + Describe(service_, *peer));
  const uint64_t number = next_++;
  attached_.emplace(number, *std::move(peer));
  asio::co_spawn(executor_, Keep(std::move(socket), number), asio::detached);
}

// The 1st, 2nd, 4th, 8th...: any user of the machine can try, and nobody may fill the log.
void AttachPoint::LogRefusal(const Peer& peer, attach::Answer answer) {
  if (!std::has_single_bit(++refused_)) return;
  const bool not_allowed = answer == attach::Answer::kNotAllowed;
  log::Warning("refused a worker" + Describe(service_, peer) +
               log::Field("why", not_allowed ? "not-allowed" : "too-many-attached") +
               log::Field("count", std::to_string(refused_)));
}

attach::Answer AttachPoint::AnswerTo(const Peer& peer) const {
  if (!allowed_.Allows(peer)) return attach::Answer::kNotAllowed;
  return attached_.size() < kMaxAttached ? attach::Answer::kAttached : attach::Answer::kTooMany;
}

// Until the worker closes, or says something, which it may not.
asio::awaitable<void> AttachPoint::Keep(UniqueFd socket, uint64_t number) {
  const auto self = shared_from_this();
  Watch watch(executor_, socket.get());
  (void)co_await watch.Readable();
  const auto entry = attached_.find(number);
  log::Info("detached a worker" + Describe(service_, entry->second));
  attached_.erase(entry);
}

}  // namespace tlsbroker::supervisor
