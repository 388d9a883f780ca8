// SPDX-License-Identifier: Apache-2.0
#include "broker/supervisor/upstreams.h"

#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "broker/supervisor/credentials.h"
#include "broker/supervisor/socket_address.h"

namespace tlsbroker::supervisor {
namespace {

constexpr char kWantsBundle[] = "a readable PEM file with the certificates to trust is needed";

// Where Debian, Fedora, openSUSE and Alpine have the certificates that everybody trusts.
constexpr const char* kSystemBundles[] = {"/etc/ssl/certs/ca-certificates.crt",
                                          "/etc/pki/tls/certs/ca-bundle.crt",
                                          "/etc/ssl/ca-bundle.pem", "/etc/ssl/cert.pem"};

class UpstreamOpener {
 public:
  UpstreamOpener(const Config& config, Diagnostics& diagnostics)
      : config_(config), diagnostics_(diagnostics) {}

  Trust Open() {
    for (const ServiceConfig& service : config_.services) {
      if (service.wrap_client) General(service.wrap_client_position);
    }
    for (const UpstreamConfig& upstream : config_.upstreams) {
      trust_.of_upstreams.push_back(upstream.ca_file ? Index(*upstream.ca_file)
                                                     : General(upstream.name.position));
    }
    return std::move(trust_);
  }

 private:
  uint16_t General(const Position& asked_by) {
    if (!trust_.general) trust_.general = OpenGeneral(asked_by);
    return *trust_.general;
  }

  uint16_t OpenGeneral(const Position& asked_by) {
    if (config_.broker.ca_file) return Index(*config_.broker.ca_file);
    for (const char* path : kSystemBundles) {
      if (access(path, F_OK) == 0) return Index({{Source::Kind::kPath, path}, asked_by});
    }
    diagnostics_.Error(asked_by,
                       "this system has no file of trusted certificates in any of the usual places",
                       "install ca-certificates, or set ca_file in [broker]");
    return 0;
  }

  uint16_t Index(const At<Source>& source) {
    const auto found = std::ranges::find(trust_.files, source.value,
                                         [](const auto& file) { return file->source; });
    const auto index = static_cast<uint16_t>(found - trust_.files.begin());
    if (found == trust_.files.end()) {
      UniqueFd file = OpenRegularFile(source, kWantsBundle, diagnostics_);
      std::string identity = FileIdentity(file.get());
      trust_.files.push_back(std::make_shared<const TrustFile>(
          TrustFile{source.value, std::move(file), std::move(identity)}));
    }
    return index;
  }

  const Config& config_;
  Diagnostics& diagnostics_;
  Trust trust_;
};

}  // namespace

Trust OpenTrust(const Config& config, Diagnostics& diagnostics) {
  return UpstreamOpener(config, diagnostics).Open();
}

UniqueFd ConnectTo(const handoff::Endpoint& endpoint) {
  const SocketAddress address = ToSocketAddress(endpoint);
  UniqueFd fd(socket(address.storage.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd) return {};
  const int result =
      connect(fd.get(), reinterpret_cast<const sockaddr*>(&address.storage), address.size);
  const int error = errno;
  if (result == 0 || error == EINPROGRESS) return fd;
  fd.Reset();
  errno = error;
  return {};
}

}  // namespace tlsbroker::supervisor
