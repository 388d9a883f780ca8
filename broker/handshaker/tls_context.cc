// SPDX-License-Identifier: Apache-2.0
#include "broker/handshaker/tls_context.h"

#include <openssl/sha.h>

#include <algorithm>
#include <array>

#include "absl/strings/str_cat.h"
#include "broker/handshaker/tls_policy.h"
#include "broker/support/log.h"
#include "broker/support/status.h"

namespace tlsbroker {
namespace {

// `use` is SSL_CTX_use_cert_and_key or SSL_use_cert_and_key.
template <typename Target>
bool UseGroup(Target* target, int (*use)(Target*, X509*, EVP_PKEY*, STACK_OF(X509) *, int),
              const CertificateChoice::Group& group) {
  return std::ranges::all_of(group, [&](const auto& certificate) {
    constexpr int kOverride = 1;
    return use(target, certificate->leaf.get(), certificate->key.get(), certificate->chain.get(),
               kOverride) == 1;
  });
}

}  // namespace

TlsContext::TlsContext(const std::vector<std::shared_ptr<const LoadedCertificate>>& certificates,
                       const supervision::ServiceTerms& terms)
    : certificates_(certificates) {
  for (const std::string& protocol : terms.alpn) {
    alpn_ += static_cast<char>(protocol.size());
    alpn_ += protocol;
  }
}

absl::StatusOr<std::unique_ptr<TlsContext>> TlsContext::Create(
    OSSL_LIB_CTX* library, const std::string& service, const supervision::ServiceTerms& terms,
    const std::vector<std::shared_ptr<const LoadedCertificate>>& certificates,
    const KtlsCapabilities& capabilities, const TicketSealer& sealer) {
  std::unique_ptr<TlsContext> made(new TlsContext(certificates, terms));
  made->context_.reset(SSL_CTX_new_ex(library, nullptr, TLS_server_method()));
  if (!made->context_) return OpensslStatus("SSL_CTX_new_ex");
  RETURN_IF_ERROR(SetPolicy(made->context_.get(), service, terms.policy, terms.ktls, capabilities));
  RecordSecretsBehindFinished(made->context_.get());
  RETURN_IF_ERROR(made->TryCertificates(certificates));
  RETURN_IF_ERROR(made->SetCertificates());
  RETURN_IF_ERROR(made->SetResumption(service, terms.tickets, sealer));
  made->SetAlpn();
  return made;
}

// Each certificate is loaded once as a handshake will load it: what OpenSSL refuses, a weak
// signature for example, would fail each handshake for its names and nothing else.
absl::Status TlsContext::TryCertificates(
    const std::vector<std::shared_ptr<const LoadedCertificate>>& certificates) {
  const SslPtr session(SSL_new(context_.get()));
  if (!session) return OpensslStatus("SSL_new");
  for (const auto& certificate : certificates) {
    CertificateChoice::Group alone;
    alone.push_back(certificate);
    if (UseGroup(session.get(), &SSL_use_cert_and_key, alone)) continue;
    return OpensslStatus(
        absl::StrCat("certificate \"", certificate->config_name, "\" cannot be used"));
  }
  return absl::OkStatus();
}

absl::Status TlsContext::SetCertificates() {
  loaded_ = certificates_.default_group();
  if (!UseGroup(context_.get(), &SSL_CTX_use_cert_and_key, loaded_)) {
    return OpensslStatus("certificate");
  }
  SSL_CTX_set_cert_cb(context_.get(), &TlsContext::OnCertificate, this);
  // Tells OpenSSL that the name was understood, which OpenSSL then confirms to the client.
  SSL_CTX_set_tlsext_servername_callback(
      context_.get(), +[](SSL*, int*, void*) { return SSL_TLSEXT_ERR_OK; });
  return absl::OkStatus();
}

absl::Status TlsContext::SetResumption(const std::string& service, uint32_t tickets,
                                       const TicketSealer& sealer) {
  // Tickets only, no session cache: tickets work at every handshaker. A ticket is bound to its
  // service.
  SSL_CTX_set_session_cache_mode(context_.get(), SSL_SESS_CACHE_OFF);
  std::array<unsigned char, SHA256_DIGEST_LENGTH> id;
  static_assert(sizeof(id) <= SSL_MAX_SID_CTX_LENGTH);
  SHA256(reinterpret_cast<const unsigned char*>(service.data()), service.size(), id.data());
  if (SSL_CTX_set_session_id_context(context_.get(), id.data(), id.size()) != 1) {
    return OpensslStatus("session id context");
  }
  // By default a full handshake gives one ticket, a resumed one gives the next (RFC 8446 appendix
  // C.4). A second one serves clients that open several connections at once, but costs a twentieth
  // of every full handshake.
  if (SSL_CTX_set_num_tickets(context_.get(), tickets) != 1) {
    return OpensslStatus("number of tickets");
  }
  // With no cache of sessions, this also refuses tickets from before a reload.
  if (tickets == 0) SSL_CTX_set_options(context_.get(), SSL_OP_NO_TICKET);
  sealer.Attach(context_.get());
  return absl::OkStatus();
}

void TlsContext::SetAlpn() {
  if (!alpn_.empty()) SSL_CTX_set_alpn_select_cb(context_.get(), &TlsContext::OnAlpn, this);
}

absl::StatusOr<SslPtr> TlsContext::NewConnection(Tls13Secrets* secrets) const {
  ASSIGN_OR_RETURN(SslPtr ssl, NewSession(context_.get(), secrets));
  SSL_set_accept_state(ssl.get());
  return ssl;
}

int TlsContext::OnCertificate(SSL* ssl, void* context) {
  const auto* self = static_cast<const TlsContext*>(context);
  const char* name = SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name);
  const uint64_t now = CertificateChoice::Now();
  const CertificateChoice::Group& group =
      name == nullptr ? self->certificates_.default_group(now) : self->certificates_.For(name, now);
  if (group == self->loaded_) return 1;
  SSL_certs_clear(ssl);
  if (UseGroup(ssl, &SSL_use_cert_and_key, group)) return 1;
  log::Error(
      std::string(OpensslStatus(absl::StrCat("certificate \"", group.front()->config_name,
                                             "\" cannot be used any more, and a handshake fails"))
                      .message()));
  return 0;
}

int TlsContext::OnAlpn(SSL*, const unsigned char** out, unsigned char* out_size,
                       const unsigned char* in, unsigned int in_size, void* context) {
  const std::string& ours = static_cast<const TlsContext*>(context)->alpn_;
  unsigned char* chosen = nullptr;
  const int result =
      SSL_select_next_proto(&chosen, out_size, reinterpret_cast<const unsigned char*>(ours.data()),
                            static_cast<unsigned int>(ours.size()), in, in_size);
  if (result != OPENSSL_NPN_NEGOTIATED) return SSL_TLSEXT_ERR_ALERT_FATAL;  // RFC 7301 3.2
  *out = chosen;
  return SSL_TLSEXT_ERR_OK;
}

}  // namespace tlsbroker
