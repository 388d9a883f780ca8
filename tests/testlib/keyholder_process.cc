// SPDX-License-Identifier: Apache-2.0
#include "tests/testlib/keyholder_process.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <spawn.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include <utility>

#include "protocol/channel.h"
#include "protocol/pipe.h"

namespace tlsbroker::testlib {
namespace {

constexpr uint32_t kNobody = 65534;
constexpr int kAnswerTimeoutMs = 30000;

}  // namespace

UniqueFd FileWith(const std::string& bytes) {
  UniqueFd file(memfd_create("test", MFD_CLOEXEC));
  EXPECT_EQ(write(file.get(), bytes.data(), bytes.size()), static_cast<ssize_t>(bytes.size()));
  EXPECT_EQ(lseek(file.get(), 0, SEEK_SET), 0);
  // Opened read-only, as the supervisor opens it.
  return UniqueFd(
      open(("/proc/self/fd/" + std::to_string(file.get())).c_str(), O_RDONLY | O_CLOEXEC));
}

KeyholderProcess::KeyholderProcess(UniqueFd fd3) : log_(memfd_create("log", MFD_CLOEXEC)) {
  if (!fd3) std::tie(control_, fd3) = channel::MakePair();
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDWR, 0);
  posix_spawn_file_actions_addopen(&actions, 1, "/dev/null", O_RDWR, 0);
  posix_spawn_file_actions_adddup2(&actions, log_.get(), 2);
  posix_spawn_file_actions_adddup2(&actions, fd3.get(), 3);
  posix_spawn_file_actions_adddup2(&actions, reports_.bell(), 4);
  posix_spawn_file_actions_adddup2(&actions, reports_.memory(), 5);
  signal(SIGPIPE, SIG_IGN);
  sigset_t usual;
  sigemptyset(&usual);
  sigaddset(&usual, SIGPIPE);
  posix_spawnattr_t attributes;
  posix_spawnattr_init(&attributes);
  posix_spawnattr_setsigdefault(&attributes, &usual);
  posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGDEF);
  char name[] = "tlsbroker-keyholder";
  char* const arguments[] = {name, nullptr};
  const int error =
      posix_spawn(&pid_, TLSBROKER_KEYHOLDER, &actions, &attributes, arguments, environ);
  EXPECT_EQ(error, 0) << TLSBROKER_KEYHOLDER;
  posix_spawnattr_destroy(&attributes);
  posix_spawn_file_actions_destroy(&actions);
}

KeyholderProcess::~KeyholderProcess() {
  if (pid_ <= 0) return;
  kill(pid_, SIGKILL);
  Wait();
}

void KeyholderProcess::Send(const supervision::Message& message) {
  const supervision::Encoded encoded = supervision::Encode(message);
  EXPECT_EQ(channel::Send(control_.get(), encoded.bytes, encoded.fds), channel::Result::kOk);
}

void KeyholderProcess::SendConfinement() {
  Send(supervision::Confinement{geteuid() == 0, kNobody, kNobody});
}

void KeyholderProcess::SendCertificate(uint16_t id, const std::string& chain_pem,
                                       const std::string& key_file) {
  Send(supervision::Certificate{id, "test", chain_pem, "", FileWith(key_file)});
}

SigningEnds KeyholderProcess::SendChannel(uint16_t index, std::vector<uint16_t> certificate_ids,
                                          std::vector<uint16_t> client_certificate_ids,
                                          supervision::Policy policy) {
  pipes::Pipe requests = pipes::Make();
  pipes::Pipe answers = pipes::Make();
  Send(supervision::HandshakerChannel{index, 10000, std::move(certificate_ids),
                                      std::move(client_certificate_ids), policy,
                                      std::move(requests.reading), std::move(answers.writing)});
  return {std::move(requests.writing), std::move(answers.reading)};
}

std::optional<supervision::Message> KeyholderProcess::Start() {
  Send(supervision::Start{});
  return reports_.Next(pid_, kAnswerTimeoutMs);
}

int KeyholderProcess::Wait() {
  int status = 0;
  EXPECT_EQ(waitpid(std::exchange(pid_, -1), &status, 0) > 0, true);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

std::string KeyholderProcess::Log() const {
  std::string text(64 * 1024, '\0');
  const ssize_t size = pread(log_.get(), text.data(), text.size(), 0);
  text.resize(size > 0 ? static_cast<size_t>(size) : 0);
  return text;
}

}  // namespace tlsbroker::testlib
