#include "broker/supervisor/credentials.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <optional>

#include "protocol/supervision.h"

namespace tlsbroker::supervisor {
namespace {

constexpr char kWantsChain[] = "a readable PEM file with the server's certificate first is needed";
constexpr char kWantsKey[] = "a readable file with the private key is needed";

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

std::optional<std::string> ReadWhole(int fd, size_t size) {
  std::string text(size, '\0');
  size_t done = 0;
  while (done < size) {
    const ssize_t n = read(fd, text.data() + done, size - done);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return std::nullopt;
    done += static_cast<size_t>(n);
  }
  return text;
}

std::string ReadChain(const At<Source>& source, Diagnostics& diagnostics) {
  const auto file = OpenFile(source, kWantsChain, diagnostics);
  if (!file) return {};
  const auto size = static_cast<size_t>(file->status.st_size);
  if (size > supervision::kMaxChain) {
    diagnostics.Error(source.position, "a chain of " + std::to_string(size) + " bytes",
                      "at most " + std::to_string(supervision::kMaxChain) + " are possible");
    return {};
  }
  auto text = ReadWhole(file->fd.get(), size);
  if (!text) diagnostics.Error(source.position, "the chain cannot be read", kWantsChain);
  return text.value_or("");
}

UniqueFd OpenKey(const At<Source>& source, Diagnostics& diagnostics) {
  auto file = OpenFile(source, kWantsKey, diagnostics);
  if (!file) return {};
  if ((file->status.st_mode & S_IROTH) != 0) {
    diagnostics.Warning(source.position, "every user can read this private key",
                        "take the right away with chmod o-r");
  }
  return std::move(file->fd);
}

}  // namespace

UniqueFd OpenRegularFile(const At<Source>& source, const char* right, Diagnostics& diagnostics) {
  auto file = OpenFile(source, right, diagnostics);
  return file ? std::move(file->fd) : UniqueFd();
}

std::vector<Credential> OpenCredentials(const Config& config, Diagnostics& diagnostics) {
  std::vector<Credential> credentials;
  for (const CertificateConfig& certificate : config.certificates) {
    Credential& credential = credentials.emplace_back();
    credential.chain_pem = ReadChain(certificate.chain, diagnostics);
    if (certificate.key.value.kind == Source::Kind::kUri) {
      credential.key_uri = certificate.key.value.text;
    } else {
      credential.key_file = OpenKey(certificate.key, diagnostics);
    }
  }
  return credentials;
}

}  // namespace tlsbroker::supervisor
