// SPDX-License-Identifier: Apache-2.0
// Getters of what a hand-off says about its connection. Part of libtlsbroker; the texts are the
// peer's and are passed on as they are.

#include <cstring>

#include "client-lib/connection.h"
#include "tlsbroker/tlsbroker.h"

namespace {

using tlsbroker::handoff::Endpoint;

const char* TextOrNull(const std::string& text) { return text.empty() ? nullptr : text.c_str(); }

const void* BytesOrNull(const std::vector<uint8_t>& bytes, size_t* size) {
  *size = bytes.size();
  return bytes.empty() ? nullptr : bytes.data();
}

sockaddr_storage SocketAddress(const Endpoint& endpoint) {
  sockaddr_storage storage{};
  if (endpoint.ipv6) {
    sockaddr_in6 address{};
    address.sin6_family = AF_INET6;
    address.sin6_port = htons(endpoint.port);
    std::memcpy(&address.sin6_addr, endpoint.address.data(), sizeof(address.sin6_addr));
    std::memcpy(&storage, &address, sizeof(address));
  } else {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(endpoint.port);
    std::memcpy(&address.sin_addr, endpoint.address.data(), sizeof(address.sin_addr));
    std::memcpy(&storage, &address, sizeof(address));
  }
  return storage;
}

}  // namespace

tlsbroker_conn::tlsbroker_conn(tlsbroker::UniqueFd descriptor,
                               tlsbroker::handoff::Description received,
                               std::shared_ptr<tlsbroker::UniqueFd> requests)
    : fd(std::move(descriptor)),
      description(std::move(received)),
      peer_text(description.peer.ToString()),
      local_text(description.local.ToString()),
      peer(SocketAddress(description.peer)),
      local(SocketAddress(description.local)),
      records(description.tls_version == "TLSv1.2",
              description.tls_version != "TLSv1.2" &&
                  description.cipher.find("GCM") != std::string::npos,
              description.tls_version != "TLSv1.2" && description.we_are_client),
      rekeyer(description.rekey_token, std::move(requests)) {}

tlsbroker_mode tlsbroker_conn_mode(const tlsbroker_conn* conn) {
  return static_cast<tlsbroker_mode>(conn->description.mode);
}
const char* tlsbroker_conn_mode_name(const tlsbroker_conn* conn) {
  return tlsbroker::handoff::ModeName(conn->description.mode);
}
const char* tlsbroker_conn_reason(const tlsbroker_conn* conn) {
  return TextOrNull(conn->description.reason);
}
const char* tlsbroker_conn_service(const tlsbroker_conn* conn) {
  return conn->description.service.c_str();
}
const uint8_t* tlsbroker_conn_unique_id(const tlsbroker_conn* conn) {
  return conn->description.unique_id.data();
}

const sockaddr* tlsbroker_conn_peer(const tlsbroker_conn* conn) {
  return reinterpret_cast<const sockaddr*>(&conn->peer);
}
const sockaddr* tlsbroker_conn_local(const tlsbroker_conn* conn) {
  return reinterpret_cast<const sockaddr*>(&conn->local);
}
const char* tlsbroker_conn_peer_text(const tlsbroker_conn* conn) { return conn->peer_text.c_str(); }
const char* tlsbroker_conn_local_text(const tlsbroker_conn* conn) {
  return conn->local_text.c_str();
}

const char* tlsbroker_conn_tls_version(const tlsbroker_conn* conn) {
  return TextOrNull(conn->description.tls_version);
}
const char* tlsbroker_conn_cipher(const tlsbroker_conn* conn) {
  return TextOrNull(conn->description.cipher);
}
const char* tlsbroker_conn_group(const tlsbroker_conn* conn) {
  return TextOrNull(conn->description.group);
}
const char* tlsbroker_conn_key_algorithm(const tlsbroker_conn* conn) {
  return TextOrNull(conn->description.key_algorithm);
}
const char* tlsbroker_conn_alpn(const tlsbroker_conn* conn) {
  return TextOrNull(conn->description.alpn);
}
const char* tlsbroker_conn_server_name(const tlsbroker_conn* conn) {
  return TextOrNull(conn->description.server_name);
}
int tlsbroker_conn_resumed(const tlsbroker_conn* conn) { return conn->description.resumed ? 1 : 0; }

int tlsbroker_conn_client_verified(const tlsbroker_conn* conn) {
  constexpr uint8_t kShowed =
      tlsbroker::handoff::kClientCertConnection | tlsbroker::handoff::kClientCertSession;
  return conn->description.verify == 0 && (conn->description.client & kShowed) != 0 ? 1 : 0;
}
const char* tlsbroker_conn_client_common_name(const tlsbroker_conn* conn) {
  return TextOrNull(conn->description.client_common_name);
}
const void* tlsbroker_conn_client_certificate(const tlsbroker_conn* conn, size_t* size) {
  return BytesOrNull(conn->description.client_certificate, size);
}
const void* tlsbroker_conn_rekey_token(const tlsbroker_conn* conn, size_t* size) {
  return BytesOrNull(conn->description.rekey_token, size);
}
