// SPDX-License-Identifier: Apache-2.0
#include "broker/handshaker/description.h"

#include <sys/random.h>

#include <cstring>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "broker/handshaker/certificates.h"
#include "broker/support/log.h"

namespace tlsbroker {
namespace {

std::string NegotiatedAlpn(const SSL* ssl) {
  const unsigned char* name = nullptr;
  unsigned int size = 0;
  SSL_get0_alpn_selected(ssl, &name, &size);
  return std::string(reinterpret_cast<const char*>(name), size);
}

std::string NegotiatedGroup(SSL* ssl) {
  const long id = SSL_get_negotiated_group(ssl);
  const char* name = id != 0 ? SSL_group_to_name(ssl, static_cast<int>(id)) : nullptr;
  return name != nullptr ? name : "";
}

}  // namespace

handoff::Description Describe(const std::string& service, const TcpConnection& connection,
                              SSL* ssl) {
  handoff::Description d;
  d.service = service;
  d.peer = connection.peer;
  d.local = connection.local;
  d.resumed = SSL_session_reused(ssl) == 1;
  // getrandom(2) neither refuses nor cuts short a request for so few bytes.
  [[maybe_unused]] const ssize_t random = getrandom(d.unique_id.data(), d.unique_id.size(), 0);
  d.alpn = NegotiatedAlpn(ssl);
  const char* name = SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name);
  d.server_name = name != nullptr ? name : "";
  d.tls_version = SSL_get_version(ssl);
  d.cipher = SSL_CIPHER_get_name(SSL_get_current_cipher(ssl));
  d.group = NegotiatedGroup(ssl);
  d.we_are_client = SSL_is_server(ssl) == 0;
  const X509* certificate =
      d.we_are_client ? SSL_get0_peer_certificate(ssl) : SSL_get_certificate(ssl);
  if (certificate != nullptr) d.key_algorithm = KeyAlgorithm(certificate);
  return d;
}

namespace {

std::string Id(const handoff::Description& d) {
  return log::Field("conn",
                    absl::BytesToHexString(absl::string_view(
                        reinterpret_cast<const char*>(d.unique_id.data()), d.unique_id.size())));
}

}  // namespace

std::string LogLine(const handoff::Description& d, std::chrono::steady_clock::duration took) {
  const double ms = std::chrono::duration<double, std::milli>(took).count();
  const bool direct = d.mode == handoff::Mode::kDirect;
  return absl::StrCat(
      "connection", Id(d), log::Field("service", d.service),
      d.we_are_client ? log::Field("role", "client") : "", log::Field("peer", d.peer.ToString()),
      log::Field("sni", d.server_name), log::Field("alpn", d.alpn),
      log::Field("proto", d.tls_version), log::Field("cipher", d.cipher),
      log::Field("group", d.group), log::Field("resumed", d.resumed ? "yes" : "no"),
      log::Field("ktls", direct ? "tx,rx" : "no"), log::Field("ktls_reason", d.reason),
      log::Field("hs_ms", absl::StrFormat("%.2f", ms)),
      log::Field("mode", handoff::ModeName(d.mode)));
}

std::string LostLine(const handoff::Description& d, int error) {
  return absl::StrCat("connection lost, it cannot be handed off", Id(d),
                      log::Field("service", d.service), log::Field("peer", d.peer.ToString()),
                      log::Field("why", std::strerror(error)));
}

}  // namespace tlsbroker
