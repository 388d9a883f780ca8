// SPDX-License-Identifier: Apache-2.0
#include "client-lib/tools/exec/environment.h"

#include <arpa/inet.h>
#include <netinet/in.h>

#include <algorithm>
#include <cstdlib>

#include "client-lib/tools/program_environment.h"

namespace tlsbroker::tools {
namespace {

class Environment {
 public:
  Environment& Set(const char* name, std::string value) {
    for (char& c : value) {
      const auto byte = static_cast<unsigned char>(c);
      if (byte < 0x20 || byte == 0x7f) c = '?';
    }
    variables_.push_back(std::string(name) + "=" + value);
    return *this;
  }
  // Sets nothing if the connection has no such value: programs ask whether a variable is there.
  Environment& Set(const char* name, const char* value) {
    return value == nullptr ? *this : Set(name, std::string(value));
  }
  // The configuration's variables come in front: they may be others than those of a connection, and
  // PATH.
  std::vector<std::string> Take() {
    std::vector<std::string> all = ProgramVariables();
    const auto is_path = [](const std::string& variable) { return variable.starts_with("PATH="); };
    if (std::ranges::any_of(all, is_path)) std::erase_if(variables_, is_path);
    all.insert(all.end(), variables_.begin(), variables_.end());
    return all;
  }

 private:
  std::vector<std::string> variables_;
};

std::string PortText(const sockaddr* address) {
  const in_port_t port = address->sa_family == AF_INET6
                             ? reinterpret_cast<const sockaddr_in6*>(address)->sin6_port
                             : reinterpret_cast<const sockaddr_in*>(address)->sin_port;
  return std::to_string(ntohs(port));
}

}  // namespace

std::string AddressText(const sockaddr* address) {
  char text[INET6_ADDRSTRLEN] = "";
  const void* number =
      address->sa_family == AF_INET6
          ? static_cast<const void*>(&reinterpret_cast<const sockaddr_in6*>(address)->sin6_addr)
          : &reinterpret_cast<const sockaddr_in*>(address)->sin_addr;
  inet_ntop(address->sa_family, number, text, sizeof(text));
  return text;
}

std::string IdText(const tlsbroker_conn* conn) {
  constexpr char kDigits[] = "0123456789abcdef";
  const uint8_t* id = tlsbroker_conn_unique_id(conn);
  std::string text;
  for (size_t i = 0; i < 16; ++i) {
    text += kDigits[id[i] >> 4];
    text += kDigits[id[i] & 15];
  }
  return text;
}

std::vector<std::string> EnvironmentOf(const tlsbroker_conn* conn) {
  const sockaddr* peer = tlsbroker_conn_peer(conn);
  const sockaddr* local = tlsbroker_conn_local(conn);
  const char* path = getenv("PATH");
  Environment environment;
  environment
      .Set("PATH", path != nullptr ? path : "/usr/local/bin:/usr/bin:/bin")
      // UCSPI (ucspi-tcp, s6-networking), whose clients exist for TCP only.
      .Set("PROTO", "TCP")
      .Set("TCPLOCALIP", AddressText(local))
      .Set("TCPLOCALPORT", PortText(local))
      .Set("TCPREMOTEIP", AddressText(peer))
      .Set("TCPREMOTEPORT", PortText(peer))
      // systemd.socket(5) with Accept=yes, and CGI (RFC 3875 section 4.1.8).
      .Set("REMOTE_ADDR", AddressText(peer))
      .Set("REMOTE_PORT", PortText(peer))
      // mod_ssl's names.
      .Set("SSL_PROTOCOL", tlsbroker_conn_tls_version(conn))
      .Set("SSL_CIPHER", tlsbroker_conn_cipher(conn))
      .Set("SSL_TLS_SNI_SERVERNAME", tlsbroker_conn_server_name(conn))
      .Set("SSL_ALPN", tlsbroker_conn_alpn(conn))
      .Set("TLSBROKER_CONNECTION", IdText(conn))
      .Set("TLSBROKER_SERVICE", tlsbroker_conn_service(conn));
  if (tlsbroker_conn_client_verified(conn) != 0) {
    environment.Set("SSL_CLIENT_VERIFY", "SUCCESS")
        .Set("SSL_CLIENT_S_DN_CN", tlsbroker_conn_client_common_name(conn));
  }
  return environment.Take();
}

}  // namespace tlsbroker::tools
