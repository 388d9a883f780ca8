// SPDX-License-Identifier: Apache-2.0
#include "broker/handshaker/tls_policy.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <string>
#include <string_view>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "broker/support/status.h"
#include "protocol/certificate_facts.h"
#include "protocol/tls_groups.h"

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

// If OpenSSL does not know one of the groups, it refuses the whole list.
bool OfferGroups(SSL_CTX* context) {
  std::vector<std::string> names = {tls_groups::kPostQuantum};
  for (const tls_groups::Group& group : tls_groups::kOffered) names.emplace_back(group.name);
  if (SSL_CTX_set1_groups_list(context, absl::StrJoin(names, ":").c_str()) == 1) return true;
  ERR_clear_error();
  names.erase(names.begin());
  return SSL_CTX_set1_groups_list(context, absl::StrJoin(names, ":").c_str()) == 1;
}

// What the keyholder signs, so no SHA-1. RSA with PKCS #1 is for TLS 1.2 only (RFC 8446 4.2.3).
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

// A line is "LABEL client_random secret", the format of SSLKEYLOGFILE. OpenSSL wipes it afterwards.
void OnKeyLog(const SSL* ssl, const char* line) {
  auto* secrets = static_cast<Tls13Secrets*>(SSL_get_ex_data(ssl, SecretsIndex()));
  std::string_view rest(line);
  const auto label = NextWord(rest);
  const auto random = NextWord(rest);
  const auto secret = NextWord(rest);
  if (secrets == nullptr || !label || !random || !secret) return;
  SecretBytes* target = nullptr;
  if (*label == "CLIENT_TRAFFIC_SECRET_0") target = &secrets->client;
  if (*label == "SERVER_TRAFFIC_SECRET_0") target = &secrets->server;
  if (target == nullptr) return;
  if (!ParseHex(*secret, *target)) target->Clear();
  if (SSL_is_server(ssl) == 1) SSL_CTX_set_keylog_callback(SSL_get_SSL_CTX(ssl), nullptr);
}

void OnServerMessage(int /*is_write*/, int /*version*/, int content_type, const void* data,
                     size_t size, SSL* ssl, void* /*argument*/) {
  if (content_type != SSL3_RT_HANDSHAKE || size == 0) return;
  if (*static_cast<const uint8_t*>(data) != SSL3_MT_FINISHED) return;
  if (SSL_version(ssl) != TLS1_3_VERSION) return;  // nothing is logged behind it
  SSL_CTX_set_keylog_callback(SSL_get_SSL_CTX(ssl), &OnKeyLog);
}

}  // namespace

absl::Status SetPolicy(SSL_CTX* context, const std::string& service, supervision::Policy policy,
                       supervision::KtlsMode ktls, const KtlsCapabilities& capabilities) {
  const Offer tls13 = OfferFor(TlsVersion::kTls13, ktls, capabilities);
  const Offer tls12 = OfferFor(TlsVersion::kTls12, ktls, capabilities);
  const bool with_tls12 = policy != supervision::Policy::kModern && !tls12.suites.empty();
  const bool with_tls13 = policy != supervision::Policy::kTls12;
  // Where the policy has TLS 1.3, the service can do it, and OpenSSL says so in the random of each
  // TLS 1.2 handshake: the keyholder looks for that. A kernel that takes suites of TLS 1.2 takes
  // those of 1.3, too (Linux 5.1), so that nothing is lost.
  if (with_tls13 ? tls13.suites.empty() : !with_tls12) {
    const TlsVersion version = with_tls13 ? TlsVersion::kTls13 : TlsVersion::kTls12;
    return absl::FailedPreconditionError(
        absl::StrCat("service ", service, ": ktls = \"require\", but this kernel takes no suite: ",
                     capabilities.Reason(version, Suite::kAes128Gcm)));
  }
  // Not what this OpenSSL was built with: a keyholder has looked by the same measure.
  SSL_CTX_set_security_level(context, supervision::kTlsSecurityLevel);
  const int lowest = with_tls12 ? TLS1_2_VERSION : TLS1_3_VERSION;
  const int highest = with_tls13 ? TLS1_3_VERSION : TLS1_2_VERSION;
  uint64_t options = SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION;
  if (tls13.ordered || tls12.ordered) options |= SSL_OP_CIPHER_SERVER_PREFERENCE;
  SSL_CTX_set_options(context, options);
  SSL_CTX_set_mode(context, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
  if (SSL_CTX_set_min_proto_version(context, lowest) != 1 ||
      SSL_CTX_set_max_proto_version(context, highest) != 1 ||
      (with_tls13 && SSL_CTX_set_ciphersuites(context, tls13.suites.c_str()) != 1) ||
      (with_tls12 && SSL_CTX_set_cipher_list(context, tls12.suites.c_str()) != 1)) {
    return OpensslStatus("TLS policy");
  }
  if (SSL_CTX_set1_sigalgs_list(context, kSignatureAlgorithms) != 1) {
    return OpensslStatus("signature algorithms");
  }
  if (!OfferGroups(context)) return OpensslStatus("groups");
  if (ktls != supervision::KtlsMode::kNever && capabilities.ulp())
    SSL_CTX_set_keylog_callback(context, &OnKeyLog);
  return absl::OkStatus();
}

void RecordSecretsBehindFinished(SSL_CTX* context) {
  if (SSL_CTX_get_keylog_callback(context) == nullptr) return;
  SSL_CTX_set_keylog_callback(context, nullptr);
  SSL_CTX_set_msg_callback(context, &OnServerMessage);
}

absl::StatusOr<SslPtr> NewSession(SSL_CTX* context, Tls13Secrets* secrets) {
  SslPtr ssl(SSL_new(context));
  if (!ssl || SSL_set_ex_data(ssl.get(), SecretsIndex(), secrets) != 1)
    return OpensslStatus("SSL_new");
  BIO* const in = BIO_new(BIO_s_mem());
  BIO* const out = BIO_new(BIO_s_mem());
  SSL_set_bio(ssl.get(), in, out);
  if (in == nullptr || out == nullptr) return OpensslStatus("BIO_new");
  return ssl;
}

void StopRecordingSecrets(SSL* ssl) { SSL_set_ex_data(ssl, SecretsIndex(), nullptr); }

}  // namespace tlsbroker
