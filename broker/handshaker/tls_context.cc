#include "broker/handshaker/tls_context.h"

#include <openssl/sha.h>

#include <algorithm>
#include <array>

#include "broker/handshaker/tls_policy.h"
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

TlsContext::TlsContext(std::vector<std::shared_ptr<const LoadedCertificate>> certificates,
                       const supervision::Service& service)
    : certificates_(certificates) {
  for (const std::string& protocol : service.alpn) {
    alpn_ += static_cast<char>(protocol.size());
    alpn_ += protocol;
  }
}

absl::StatusOr<std::unique_ptr<TlsContext>> TlsContext::Create(
    OSSL_LIB_CTX* library, const supervision::Service& service,
    std::vector<std::shared_ptr<const LoadedCertificate>> certificates,
    const KtlsCapabilities& capabilities, const TicketKeyring& keyring) {
  std::unique_ptr<TlsContext> made(new TlsContext(std::move(certificates), service));
  made->context_.reset(SSL_CTX_new_ex(library, nullptr, TLS_server_method()));
  if (!made->context_) return OpensslStatus("SSL_CTX_new_ex");
  RETURN_IF_ERROR(
      SetPolicy(made->context_.get(), service.name, service.policy, service.ktls, capabilities));
  ListenBehindFinished(made->context_.get());
  RETURN_IF_ERROR(made->SetCertificates());
  RETURN_IF_ERROR(made->SetResumption(service, keyring));
  made->SetAlpn();
  return made;
}

absl::Status TlsContext::SetCertificates() {
  if (!UseGroup(context_.get(), &SSL_CTX_use_cert_and_key, certificates_.default_group())) {
    return OpensslStatus("certificate");
  }
  SSL_CTX_set_cert_cb(context_.get(), &TlsContext::OnCertificate, this);
  // Says to OpenSSL that the name was understood, which it then confirms to the client.
  SSL_CTX_set_tlsext_servername_callback(
      context_.get(), +[](SSL*, int*, void*) { return SSL_TLSEXT_ERR_OK; });
  return absl::OkStatus();
}

absl::Status TlsContext::SetResumption(const supervision::Service& service,
                                       const TicketKeyring& keyring) {
  // Tickets only: they work at every handshaker. A ticket is bound to its service.
  SSL_CTX_set_session_cache_mode(context_.get(), SSL_SESS_CACHE_OFF);
  std::array<unsigned char, SHA256_DIGEST_LENGTH> id;
  static_assert(sizeof(id) <= SSL_MAX_SID_CTX_LENGTH);
  SHA256(reinterpret_cast<const unsigned char*>(service.name.data()), service.name.size(),
         id.data());
  if (SSL_CTX_set_session_id_context(context_.get(), id.data(), id.size()) != 1) {
    return OpensslStatus("session id context");
  }
  // A full handshake gives one, a resumed one the next (RFC 8446 appendix C.4). OpenSSL's second
  // one serves clients that open several connections at once, and a twentieth of every full
  // handshake is what it costs.
  if (SSL_CTX_set_num_tickets(context_.get(), 1) != 1) return OpensslStatus("number of tickets");
  keyring.Attach(context_.get());
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
  if (name == nullptr) return 1;
  const CertificateChoice::Group& group = self->certificates_.For(name);
  if (group == self->certificates_.default_group()) return 1;
  SSL_certs_clear(ssl);
  return UseGroup(ssl, &SSL_use_cert_and_key, group) ? 1 : 0;
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
