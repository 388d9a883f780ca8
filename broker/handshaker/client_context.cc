// SPDX-License-Identifier: Apache-2.0
#include "broker/handshaker/client_context.h"

#include <arpa/inet.h>
#include <openssl/crypto.h>
#include <openssl/pem.h>
#include <openssl/sha.h>
#include <openssl/x509v3.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "broker/handshaker/tls_policy.h"
#include "broker/support/status.h"

namespace tlsbroker {
namespace {

// A system's bundle has about 200 KiB.
constexpr size_t kMaxTrustFile = 8 * 1024 * 1024;

// The algorithms of the service itself (tls_policy.cc), and those with which only other people's
// servers sign.
constexpr const char* kServersSignatureAlgorithms =
    "ecdsa_secp256r1_sha256:ecdsa_secp384r1_sha384:ecdsa_secp521r1_sha512:ed25519:ed448:"
    "rsa_pss_pss_sha256:rsa_pss_pss_sha384:rsa_pss_pss_sha512:"
    "rsa_pss_rsae_sha256:rsa_pss_rsae_sha384:rsa_pss_rsae_sha512:"
    "rsa_pkcs1_sha256:rsa_pkcs1_sha384:rsa_pkcs1_sha512";

int ExpectedIndex() {
  static const int index = SSL_get_ex_new_index(0, nullptr, nullptr, nullptr, nullptr);
  return index;
}

absl::StatusOr<std::string> ReadWhole(int file, const std::string& name) {
  std::string text;
  std::array<char, 64 * 1024> piece;
  while (text.size() <= kMaxTrustFile) {
    const ssize_t n = pread(file, piece.data(), piece.size(), static_cast<off_t>(text.size()));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return ErrnoStatus(absl::StrCat("reading ", name));
    if (n == 0) return text;
    text.append(piece.data(), static_cast<size_t>(n));
  }
  return absl::InvalidArgumentError(absl::StrCat(name, " is too large"));
}

bool IsAddress(const std::string& name) {
  in6_addr any;
  return inet_pton(AF_INET, name.c_str(), &any) == 1 ||
         inet_pton(AF_INET6, name.c_str(), &any) == 1;
}

bool IsLabel(absl::string_view label) {
  return !label.empty() && label.size() <= 63 && std::ranges::all_of(label, [](unsigned char c) {
    return absl::ascii_isalnum(c) || c == '-' || c == '_';
  });
}

bool HasOneOf(const std::vector<supervision::Pin>& pins, X509* certificate) {
  supervision::Pin digest;
  static_assert(sizeof(digest) == SHA256_DIGEST_LENGTH);
  uint8_t* der = nullptr;
  const int size = i2d_X509_PUBKEY(X509_get_X509_PUBKEY(certificate), &der);
  if (size <= 0) return false;
  SHA256(der, static_cast<size_t>(size), digest.data());
  OPENSSL_free(der);
  return std::ranges::find(pins, digest) != pins.end();
}

// OpenSSL calls this for each certificate of the chain, the server's own last. The pins are checked
// in addition to what OpenSSL checks.
int OnVerify(int good, X509_STORE_CTX* store) {
  if (good != 1 || X509_STORE_CTX_get_error_depth(store) != 0) return good;
  const auto* ssl = static_cast<const SSL*>(
      X509_STORE_CTX_get_ex_data(store, SSL_get_ex_data_X509_STORE_CTX_idx()));
  const auto* expected = static_cast<const ExpectedServer*>(SSL_get_ex_data(ssl, ExpectedIndex()));
  if (expected->pins.empty() || HasOneOf(expected->pins, X509_STORE_CTX_get_current_cert(store)))
    return 1;
  X509_STORE_CTX_set_error(store, X509_V_ERR_APPLICATION_VERIFICATION);
  return 0;
}

// The keyholder has the private key, and signs once the server has asked for the certificate.
absl::Status Show(SSL* ssl, const LoadedCertificate& certificate) {
  constexpr int kOverride = 1;
  if (SSL_use_cert_and_key(ssl, certificate.leaf.get(), certificate.key.get(),
                           certificate.chain.get(), kOverride) == 1) {
    return absl::OkStatus();
  }
  return OpensslStatus("client certificate");
}

absl::Status Expect(SSL* ssl, const ExpectedServer& expected) {
  X509_VERIFY_PARAM* param = SSL_get0_param(ssl);
  X509_VERIFY_PARAM_set_hostflags(param, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
  bool set;
  if (IsAddress(expected.name)) {
    set = X509_VERIFY_PARAM_set1_ip_asc(param, expected.name.c_str()) == 1;
  } else {  // RFC 6066 section 3: no addresses in SNI
    set = X509_VERIFY_PARAM_set1_host(param, expected.name.data(), expected.name.size()) == 1 &&
          SSL_set_tlsext_host_name(ssl, expected.name.c_str()) == 1;
  }
  if (!set) return OpensslStatus("server name");
  std::string alpn;
  for (const std::string& protocol : expected.alpn) {
    alpn += static_cast<char>(protocol.size());
    alpn += protocol;
  }
  // Unlike the other functions this one returns 0 for success.
  if (!alpn.empty() && SSL_set_alpn_protos(ssl, reinterpret_cast<const unsigned char*>(alpn.data()),
                                           static_cast<unsigned int>(alpn.size())) != 0) {
    return OpensslStatus("ALPN");
  }
  if (SSL_set1_verify_cert_store(ssl, expected.trust) != 1 ||
      SSL_set_ex_data(ssl, ExpectedIndex(), const_cast<ExpectedServer*>(&expected)) != 1) {
    return OpensslStatus("trust");
  }
  return expected.certificate ? Show(ssl, *expected.certificate) : absl::OkStatus();
}

}  // namespace

absl::StatusOr<X509StorePtr> LoadTrust(OSSL_LIB_CTX* library, int file, const std::string& name) {
  ASSIGN_OR_RETURN(const std::string text, ReadWhole(file, name));
  X509StorePtr store(X509_STORE_new());
  const BioPtr pem(BIO_new_mem_buf(text.data(), static_cast<int>(text.size())));
  if (!store || !pem) return OpensslStatus("X509_STORE_new");
  size_t count = 0;
  while (true) {
    X509* certificate = X509_new_ex(library, nullptr);
    if (PEM_read_bio_X509_AUX(pem.get(), &certificate, nullptr, nullptr) == nullptr) {
      X509_free(certificate);
      break;
    }
    const X509Ptr owned(certificate);
    if (X509_STORE_add_cert(store.get(), certificate) == 1) ++count;
  }
  const unsigned long error = ERR_peek_last_error();
  const bool ended =
      ERR_GET_LIB(error) == ERR_LIB_PEM && ERR_GET_REASON(error) == PEM_R_NO_START_LINE;
  if (!ended) return OpensslStatus(absl::StrCat(name, " has a certificate that cannot be read"));
  ERR_clear_error();
  if (count == 0) return absl::InvalidArgumentError(absl::StrCat(name, " has no certificate"));
  return store;
}

bool IsServerName(const std::string& name) {
  if (IsAddress(name)) return true;
  const std::vector<absl::string_view> labels = absl::StrSplit(name, '.');
  return name.size() <= 253 && std::ranges::all_of(labels, IsLabel);
}

absl::StatusOr<std::unique_ptr<ClientContext>> ClientContext::Create(
    OSSL_LIB_CTX* library, const std::string& service, supervision::KtlsMode ktls,
    const KtlsCapabilities& capabilities) {
  auto made = std::make_unique<ClientContext>();
  made->context_.reset(SSL_CTX_new_ex(library, nullptr, TLS_client_method()));
  SSL_CTX* context = made->context_.get();
  if (context == nullptr) return OpensslStatus("SSL_CTX_new_ex");
  RETURN_IF_ERROR(
      SetPolicy(context, service, supervision::Policy::kIntermediate, ktls, capabilities));
  if (SSL_CTX_set1_sigalgs_list(context, kServersSignatureAlgorithms) != 1) {
    return OpensslStatus("signature algorithms");
  }
  SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
  SSL_CTX_set_verify(context, SSL_VERIFY_PEER, &OnVerify);
  return made;
}

absl::StatusOr<SslPtr> ClientContext::NewConnection(const ExpectedServer& expected,
                                                    Tls13Secrets* secrets) const {
  ASSIGN_OR_RETURN(SslPtr ssl, NewSession(context_.get(), secrets));
  RETURN_IF_ERROR(Expect(ssl.get(), expected));
  SSL_set_connect_state(ssl.get());
  return ssl;
}

request::Result ClientContext::WhyRefused(SSL* ssl, std::string& detail) {
  using request::Result;
  const long error = SSL_get_verify_result(ssl);
  if (error == X509_V_OK) return Result::kHandshake;
  detail = X509_verify_cert_error_string(error);
  switch (error) {
    case X509_V_ERR_HOSTNAME_MISMATCH:
    case X509_V_ERR_IP_ADDRESS_MISMATCH:
      return Result::kWrongName;
    case X509_V_ERR_CERT_HAS_EXPIRED:
    case X509_V_ERR_CERT_NOT_YET_VALID:
      return Result::kExpired;
    case X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT:
      return Result::kSelfSigned;
    case X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN:
    case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT:
    case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY:
    case X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE:
    case X509_V_ERR_CERT_UNTRUSTED:
      return Result::kUnknownCa;
    case X509_V_ERR_APPLICATION_VERIFICATION:
      detail = "none of the pinned keys";
      return Result::kPin;
    default:
      return Result::kCertificate;
  }
}

}  // namespace tlsbroker
