#include "broker/handshaker/tls_context.h"

#include <openssl/sha.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <string_view>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "broker/support/status.h"

namespace tlsbroker {
namespace {

// Mozilla's guideline 6.0, "intermediate" and "modern": the TLS 1.3 suites are the same, TLS 1.2 is
// only in the former. Every one is a suite that kernel TLS can take.
struct OfferedSuite {
  Suite suite;
  const char* tls13;
  const char* tls12;
};
constexpr std::array<OfferedSuite, 3> kOffered = {{
    {Suite::kAes128Gcm, "TLS_AES_128_GCM_SHA256",
     "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256"},
    {Suite::kAes256Gcm, "TLS_AES_256_GCM_SHA384",
     "ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-RSA-AES256-GCM-SHA384"},
    {Suite::kChaCha20Poly1305, "TLS_CHACHA20_POLY1305_SHA256",
     "ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-CHACHA20-POLY1305"},
}};

// X25519MLKEM768 exists from OpenSSL 3.5 on; before, a list with an unknown group is refused whole.
constexpr const char* kGroups = "X25519:P-256:P-384";
constexpr const char* kGroupsPostQuantum = "X25519MLKEM768:X25519:P-256:P-384";

// What the keyholder signs: no SHA-1. RSA with PKCS #1 is for TLS 1.2 only (RFC 8446 4.2.3).
constexpr const char* kSignatureAlgorithms =
    "ecdsa_secp256r1_sha256:ecdsa_secp384r1_sha384:ed25519:"
    "rsa_pss_pss_sha256:rsa_pss_pss_sha384:rsa_pss_pss_sha512:"
    "rsa_pss_rsae_sha256:rsa_pss_rsae_sha384:rsa_pss_rsae_sha512:"
    "rsa_pkcs1_sha256:rsa_pkcs1_sha384:rsa_pkcs1_sha512";

struct Offer {
  std::string suites;    // colon-separated
  bool ordered = false;  // the server's order counts: the kernel takes the first ones only
};

// With ktls = "require" only what the kernel takes is offered. With "prefer" the rest comes last,
// for clients that can do nothing else: they are relayed.
Offer OfferFor(TlsVersion version, supervision::KtlsMode mode,
               const KtlsCapabilities& capabilities) {
  std::vector<std::string> taken;
  std::vector<std::string> other;
  for (const OfferedSuite& offered : kOffered) {
    const char* names = version == TlsVersion::kTls13 ? offered.tls13 : offered.tls12;
    const bool kernel = capabilities.Supports(version, offered.suite);
    (kernel || mode == supervision::KtlsMode::kNever ? taken : other).emplace_back(names);
  }
  if (mode == supervision::KtlsMode::kRequire) other.clear();
  const bool ordered = !taken.empty() && !other.empty();
  taken.insert(taken.end(), other.begin(), other.end());
  return {absl::StrJoin(taken, ":"), ordered};
}

int SecretsIndex() {
  static const int index = SSL_get_ex_new_index(0, nullptr, nullptr, nullptr, nullptr);
  return index;
}

std::optional<std::string_view> NextWord(std::string_view& rest) {
  if (rest.empty()) return std::nullopt;
  const std::string_view word = rest.substr(0, rest.find(' '));
  rest.remove_prefix(std::min(rest.size(), word.size() + 1));
  return word;
}

bool ParseHex(std::string_view hex, SecretBytes& out) {
  const auto room = out.Resize(hex.size() / 2);
  if (room.empty() || hex.size() % 2 != 0) return false;
  for (size_t i = 0; i < room.size(); ++i) {
    const char* digits = hex.data() + 2 * i;
    if (std::from_chars(digits, digits + 2, room[i], 16).ptr != digits + 2) return false;
  }
  return true;
}

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
  RETURN_IF_ERROR(made->SetPolicy(service, capabilities));
  RETURN_IF_ERROR(made->SetCertificates());
  RETURN_IF_ERROR(made->SetResumption(service, keyring));
  made->SetAlpn();
  if (service.ktls != supervision::KtlsMode::kNever && capabilities.ulp()) {
    SSL_CTX_set_keylog_callback(made->context_.get(), &TlsContext::OnKeyLog);
  }
  return made;
}

absl::Status TlsContext::SetPolicy(const supervision::Service& service,
                                   const KtlsCapabilities& capabilities) {
  SSL_CTX* context = context_.get();
  const Offer tls13 = OfferFor(TlsVersion::kTls13, service.ktls, capabilities);
  const Offer tls12 = OfferFor(TlsVersion::kTls12, service.ktls, capabilities);
  const bool with_tls12 =
      service.policy == supervision::Policy::kIntermediate && !tls12.suites.empty();
  if (tls13.suites.empty() && !with_tls12) {
    return absl::FailedPreconditionError(absl::StrCat(
        "service ", service.name, ": ktls = \"require\", but this kernel takes no suite: ",
        capabilities.Reason(TlsVersion::kTls13, Suite::kAes128Gcm)));
  }
  const int lowest = with_tls12 ? TLS1_2_VERSION : TLS1_3_VERSION;
  const int highest = tls13.suites.empty() ? TLS1_2_VERSION : TLS1_3_VERSION;
  uint64_t options = SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION;
  if (tls13.ordered || tls12.ordered) options |= SSL_OP_CIPHER_SERVER_PREFERENCE;
  SSL_CTX_set_options(context, options);
  // Idle relayed connections keep no record buffers.
  SSL_CTX_set_mode(context, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ENABLE_PARTIAL_WRITE |
                                SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
  if (SSL_CTX_set_min_proto_version(context, lowest) != 1 ||
      SSL_CTX_set_max_proto_version(context, highest) != 1 ||
      (!tls13.suites.empty() && SSL_CTX_set_ciphersuites(context, tls13.suites.c_str()) != 1) ||
      (with_tls12 && SSL_CTX_set_cipher_list(context, tls12.suites.c_str()) != 1)) {
    return OpensslStatus("TLS policy");
  }
  if (SSL_CTX_set1_sigalgs_list(context, kSignatureAlgorithms) != 1) {
    return OpensslStatus("signature algorithms");
  }
  if (SSL_CTX_set1_groups_list(context, kGroupsPostQuantum) != 1) {
    ERR_clear_error();
    if (SSL_CTX_set1_groups_list(context, kGroups) != 1) return OpensslStatus("groups");
  }
  return absl::OkStatus();
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
  keyring.Attach(context_.get());
  return absl::OkStatus();
}

void TlsContext::SetAlpn() {
  if (!alpn_.empty()) SSL_CTX_set_alpn_select_cb(context_.get(), &TlsContext::OnAlpn, this);
}

absl::StatusOr<SslPtr> TlsContext::NewConnection(Tls13Secrets* secrets) const {
  SslPtr ssl(SSL_new(context_.get()));
  if (!ssl || SSL_set_ex_data(ssl.get(), SecretsIndex(), secrets) != 1)
    return OpensslStatus("SSL_new");
  BIO* const in = BIO_new(BIO_s_mem());
  BIO* const out = BIO_new(BIO_s_mem());
  SSL_set_bio(ssl.get(), in, out);
  if (in == nullptr || out == nullptr) return OpensslStatus("BIO_new");
  SSL_set_accept_state(ssl.get());
  return ssl;
}

void TlsContext::StopListening(SSL* ssl) { SSL_set_ex_data(ssl, SecretsIndex(), nullptr); }

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

// A line is "LABEL client_random secret", the format of SSLKEYLOGFILE. OpenSSL wipes it afterwards.
void TlsContext::OnKeyLog(const SSL* ssl, const char* line) {
  auto* secrets = static_cast<Tls13Secrets*>(SSL_get_ex_data(ssl, SecretsIndex()));
  std::string_view rest(line);
  const auto label = NextWord(rest);
  const auto random = NextWord(rest);
  const auto secret = NextWord(rest);
  if (secrets == nullptr || !label || !random || !secret) return;
  SecretBytes* target = nullptr;
  if (*label == "CLIENT_TRAFFIC_SECRET_0") target = &secrets->client;
  if (*label == "SERVER_TRAFFIC_SECRET_0") target = &secrets->server;
  if (target != nullptr && !ParseHex(*secret, *target)) target->Clear();
}

}  // namespace tlsbroker
