// SPDX-License-Identifier: Apache-2.0
#include "broker/supervisor/credentials.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <optional>

#include "absl/strings/str_cat.h"
#include "protocol/service_messages.h"

namespace tlsbroker::supervisor {
namespace {

constexpr char kWantsChain[] = "a readable PEM file with the server's certificate first is needed";
constexpr char kWantsKey[] = "a readable file with the private key is needed";
constexpr char kWantsBoth[] = "a readable file with the private key and its certificates is needed";
constexpr char kWantsPassphrase[] = "a readable file with the passphrase is needed";

// As much as a keyholder takes (keyholder/key_files.h).
constexpr size_t kMaxFile = 1024 * 1024;

std::optional<std::string> PathOf(const At<Source>& source, Diagnostics& diagnostics) {
  if (source.value.kind == Source::Kind::kPath) return source.value.text;
  const char* directory = std::getenv("CREDENTIALS_DIRECTORY");
  if (directory != nullptr) return std::string(directory) + "/" + source.value.text;
  diagnostics.Error(source.position, "\"cred:" + source.value.text + "\" without credentials",
                    "start the broker with LoadCredential=, which sets CREDENTIALS_DIRECTORY");
  return std::nullopt;
}

struct File {
  UniqueFd fd;
  struct stat status {};
};

// A regular file, not empty. Non-blocking, so that a FIFO does not hold the broker up.
std::optional<File> OpenFile(const At<Source>& source, const char* right,
                             Diagnostics& diagnostics) {
  const auto path = PathOf(source, diagnostics);
  if (!path) return std::nullopt;
  File file;
  file.fd = UniqueFd(open(path->c_str(), O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK));
  std::string wrong;
  if (!file.fd || fstat(file.fd.get(), &file.status) != 0) {
    wrong = std::string("cannot be opened: ") + std::strerror(errno);
  } else if (S_ISDIR(file.status.st_mode)) {
    wrong = "is a directory";
  } else if (!S_ISREG(file.status.st_mode)) {
    wrong = "is not a regular file";
  } else if (file.status.st_size == 0) {
    wrong = "is empty";
  }
  if (wrong.empty()) return file;
  diagnostics.Error(source.position, "\"" + *path + "\" " + wrong, right);
  return std::nullopt;
}

UniqueFd OpenChain(const At<Source>& source, const char* right, Diagnostics& diagnostics) {
  auto file = OpenFile(source, right, diagnostics);
  if (!file) return {};
  const auto size = static_cast<size_t>(file->status.st_size);
  if (size <= kMaxFile) return std::move(file->fd);
  diagnostics.Error(source.position, "a file of " + std::to_string(size) + " bytes",
                    "at most " + std::to_string(kMaxFile) + " are possible");
  return {};
}

// `what` everybody should not be able to read.
UniqueFd OpenSecret(const At<Source>& source, const std::string& what, const char* right,
                    Diagnostics& diagnostics) {
  auto file = OpenFile(source, right, diagnostics);
  if (!file) return {};
  if ((file->status.st_mode & S_IROTH) != 0) {
    diagnostics.Warning(source.position, "every user can read this " + what,
                        "take the right away with chmod o-r");
  }
  return std::move(file->fd);
}

void OpenKey(const CertificateConfig& certificate, Credential& credential,
             Diagnostics& diagnostics) {
  if (certificate.key.value.kind == Source::Kind::kUri) {
    credential.key_uri = certificate.key.value.text;
    credential.key_identity = credential.key_uri;
    return;
  }
  credential.one_file = certificate.one_file;
  credential.key_file = OpenSecret(certificate.key, "private key",
                                   certificate.one_file ? kWantsBoth : kWantsKey, diagnostics);
  credential.key_identity = FileIdentity(credential.key_file.get());
}

}  // namespace

UniqueFd OpenRegularFile(const At<Source>& source, const char* right, Diagnostics& diagnostics) {
  auto file = OpenFile(source, right, diagnostics);
  return file ? std::move(file->fd) : UniqueFd();
}

std::string FileIdentity(int fd) {
  struct stat status {};
  if (fstat(fd, &status) != 0) return "";
  return absl::StrCat(status.st_dev, ":", status.st_ino, ":", status.st_size, ":",
                      status.st_mtim.tv_sec, ".", status.st_mtim.tv_nsec, ":",
                      status.st_ctim.tv_sec, ".", status.st_ctim.tv_nsec);
}

std::vector<std::shared_ptr<Credential>> OpenCredentials(const Config& config,
                                                         Diagnostics& diagnostics) {
  std::vector<std::shared_ptr<Credential>> credentials;
  for (const CertificateConfig& certificate : config.certificates) {
    auto credential = std::make_shared<Credential>();
    OpenKey(certificate, *credential, diagnostics);
    if (!certificate.one_file) {
      credential->chain_file = OpenChain(certificate.chain, kWantsChain, diagnostics);
    } else if (credential->key_file) {
      // Both are the same open file, whatever becomes of its name meanwhile.
      credential->chain_file = UniqueFd(fcntl(credential->key_file.get(), F_DUPFD_CLOEXEC, 0));
    }
    credential->chain_identity = FileIdentity(credential->chain_file.get());
    if (certificate.passphrase) {
      credential->passphrase =
          OpenSecret(*certificate.passphrase, "passphrase", kWantsPassphrase, diagnostics);
      credential->key_identity += "," + FileIdentity(credential->passphrase.get());
    }
    credentials.push_back(std::move(credential));
  }
  return credentials;
}

}  // namespace tlsbroker::supervisor
