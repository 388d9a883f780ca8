#include "broker/handshaker/certificates.h"

#include <openssl/pem.h>
#include <openssl/x509v3.h>

#include <algorithm>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "broker/support/status.h"

namespace tlsbroker {
namespace {

std::string Asn1Text(const ASN1_STRING* text) {
  return std::string(reinterpret_cast<const char*>(ASN1_STRING_get0_data(text)),
                     static_cast<size_t>(ASN1_STRING_length(text)));
}

std::string CommonName(X509* certificate) {
  const X509_NAME* subject = X509_get_subject_name(certificate);
  const int index = X509_NAME_get_index_by_NID(subject, NID_commonName, -1);
  if (index < 0) return "";
  return Asn1Text(X509_NAME_ENTRY_get_data(X509_NAME_get_entry(subject, index)));
}

struct GeneralNamesDeleter {
  void operator()(GENERAL_NAMES* names) const { GENERAL_NAMES_free(names); }
};

// The DNS names of the certificate; its common name only when it has none (RFC 6125 6.4.4).
std::vector<std::string> NamesOf(X509* certificate) {
  std::vector<std::string> names;
  const std::unique_ptr<GENERAL_NAMES, GeneralNamesDeleter> alternatives(
      static_cast<GENERAL_NAMES*>(
          X509_get_ext_d2i(certificate, NID_subject_alt_name, nullptr, nullptr)));
  for (int i = 0; alternatives && i < sk_GENERAL_NAME_num(alternatives.get()); ++i) {
    const GENERAL_NAME* name = sk_GENERAL_NAME_value(alternatives.get(), i);
    if (name->type != GEN_DNS) continue;
    names.push_back(absl::AsciiStrToLower(Asn1Text(name->d.dNSName)));
  }
  if (names.empty()) names.push_back(absl::AsciiStrToLower(CommonName(certificate)));
  return names;
}

int KeyType(const LoadedCertificate& certificate) {
  return EVP_PKEY_get_base_id(X509_get0_pubkey(certificate.leaf.get()));
}

// The first certificate of a key type wins, as it does in the configuration.
void AddTo(CertificateChoice::Group& group, const std::shared_ptr<const LoadedCertificate>& added) {
  const bool present = std::ranges::any_of(
      group, [&](const auto& other) { return KeyType(*other) == KeyType(*added); });
  if (!present) group.push_back(added);
}

bool SharesAName(const LoadedCertificate& a, const LoadedCertificate& b) {
  return std::ranges::any_of(a.names, [&](const std::string& name) {
    return std::ranges::find(b.names, name) != b.names.end();
  });
}

}  // namespace

absl::StatusOr<std::shared_ptr<const LoadedCertificate>> LoadedCertificate::Load(
    OSSL_LIB_CTX* library, KeyholderProvider& provider, const supervision::Certificate& source) {
  auto loaded = std::make_shared<LoadedCertificate>();
  loaded->id = source.id;
  loaded->config_name = source.name;
  loaded->chain.reset(sk_X509_new_null());
  const BioPtr pem(
      BIO_new_mem_buf(source.chain_pem.data(), static_cast<int>(source.chain_pem.size())));
  while (true) {
    X509* certificate = X509_new_ex(library, nullptr);
    if (PEM_read_bio_X509(pem.get(), &certificate, nullptr, nullptr) == nullptr) {
      X509_free(certificate);
      break;
    }
    if (!loaded->leaf) {
      loaded->leaf.reset(certificate);
    } else {
      sk_X509_push(loaded->chain.get(), certificate);
    }
  }
  if (!loaded->leaf) return OpensslStatus(absl::StrCat("certificate ", source.name));
  ERR_clear_error();  // the end of the file is an error to PEM_read_bio_X509
  ASSIGN_OR_RETURN(loaded->key, provider.MakeKey(source.id, loaded->leaf.get()));
  loaded->names = NamesOf(loaded->leaf.get());
  tm not_after{};
  if (ASN1_TIME_to_tm(X509_get0_notAfter(loaded->leaf.get()), &not_after) == 1) {
    loaded->not_after = static_cast<uint64_t>(std::max<time_t>(timegm(&not_after), 0));
  }
  return loaded;
}

std::string KeyAlgorithm(const X509* certificate) {
  const EVP_PKEY* key = X509_get0_pubkey(certificate);
  if (key == nullptr) return "";
  switch (EVP_PKEY_get_id(key)) {
    case EVP_PKEY_RSA:
    case EVP_PKEY_RSA_PSS:
      return absl::StrCat("RSA", EVP_PKEY_get_bits(key));
    case EVP_PKEY_EC:
      return absl::StrCat("EC", EVP_PKEY_get_bits(key));
    case EVP_PKEY_ED25519:
      return "ED25519";
    default:
      return "";
  }
}

CertificateChoice::CertificateChoice(
    const std::vector<std::shared_ptr<const LoadedCertificate>>& all) {
  for (const auto& certificate : all) {
    if (SharesAName(*all.front(), *certificate)) AddTo(default_, certificate);
    for (const std::string& name : certificate->names) AddTo(by_name_[name], certificate);
  }
}

const CertificateChoice::Group& CertificateChoice::For(std::string_view server_name) const {
  const std::string name =
      absl::AsciiStrToLower(absl::string_view(server_name.data(), server_name.size()));
  if (const auto exact = by_name_.find(name); exact != by_name_.end()) return exact->second;
  // A wildcard stands for exactly the first label (RFC 6125 6.4.3).
  if (const size_t dot = name.find('.'); dot != std::string::npos) {
    const auto wildcard = by_name_.find("*" + name.substr(dot));
    if (wildcard != by_name_.end()) return wildcard->second;
  }
  return default_;
}

}  // namespace tlsbroker
