// SPDX-License-Identifier: Apache-2.0
#include "broker/handshaker/certificates.h"

#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <time.h>

#include <algorithm>
#include <functional>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "broker/support/status.h"
#include "protocol/service_messages.h"

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

// Names do not differ in case, nor by the dot of the root at their end.
std::string Normal(std::string_view name) {
  if (name.ends_with('.')) name.remove_suffix(1);
  return absl::AsciiStrToLower(absl::string_view(name.data(), name.size()));
}

uint64_t Seconds(const ASN1_TIME* time) {
  tm parts{};
  if (ASN1_TIME_to_tm(time, &parts) != 1) return 0;
  return static_cast<uint64_t>(std::max<time_t>(timegm(&parts), 0));
}

// The DNS names of the certificate; its common name only when it has none (RFC 6125 6.4.4).
std::vector<std::string> NamesOf(X509* certificate) {
  std::vector<std::string> names;
  const std::unique_ptr<GENERAL_NAMES, GeneralNamesDeleter> alternatives(
      static_cast<GENERAL_NAMES*>(
          X509_get_ext_d2i(certificate, NID_subject_alt_name, nullptr, nullptr)));
  for (int i = 0; alternatives && i < sk_GENERAL_NAME_num(alternatives.get()); ++i) {
    const GENERAL_NAME* name = sk_GENERAL_NAME_value(alternatives.get(), i);
    if (name->type != GEN_DNS) continue;
    names.push_back(Normal(Asn1Text(name->d.dNSName)));
  }
  if (names.empty()) names.push_back(Normal(CommonName(certificate)));
  return names;
}

int KeyType(const LoadedCertificate& certificate) {
  return EVP_PKEY_get_base_id(X509_get0_pubkey(certificate.leaf.get()));
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
  loaded->ReadLeaf();
  return loaded;
}

void LoadedCertificate::ReadLeaf() {
  names = NamesOf(leaf.get());
  not_before = Seconds(X509_get0_notBefore(leaf.get()));
  not_after = Seconds(X509_get0_notAfter(leaf.get()));
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

uint64_t CertificateChoice::Now() {
  return static_cast<uint64_t>(std::max<time_t>(time(nullptr), 0));
}

CertificateChoice::CertificateChoice(std::vector<std::shared_ptr<const LoadedCertificate>> all)
    : all_(std::move(all)) {}

// The first certificate of a key type wins, as it does in the configuration, unless it is not
// valid.
void CertificateChoice::Add(Choice& choice, const std::shared_ptr<const LoadedCertificate>& added,
                            uint64_t now) {
  for (auto& other : choice.group) {
    if (KeyType(*other) != KeyType(*added)) continue;
    if (!other->IsValid(now) && added->IsValid(now)) other = added;
    return;
  }
  choice.group.push_back(added);
}

// A client may prefer the type of key that has no valid certificate.
void CertificateChoice::Finish(Choice& choice, uint64_t now) {
  const auto valid = [now](const auto& one) { return one->IsValid(now); };
  choice.valid = std::ranges::any_of(choice.group, valid);
  if (choice.valid) std::erase_if(choice.group, std::not_fn(valid));
}

void CertificateChoice::Refresh(uint64_t now) const {
  if (from_ <= now && now < until_) return;
  from_ = 0;
  until_ = UINT64_MAX;
  default_ = {};
  by_name_.clear();
  for (const auto& certificate : all_) {
    for (const uint64_t change : {certificate->not_before, certificate->not_after}) {
      if (change <= now) {
        from_ = std::max(from_, change);
      } else {
        until_ = std::min(until_, change);
      }
    }
    if (SharesAName(*all_.front(), *certificate)) Add(default_, certificate, now);
    for (const std::string& name : certificate->names) Add(by_name_[name], certificate, now);
  }
  Finish(default_, now);
  for (auto& [name, choice] : by_name_) Finish(choice, now);
}

const CertificateChoice::Group& CertificateChoice::default_group(uint64_t now) const {
  Refresh(now);
  return default_.group;
}

const CertificateChoice::Group& CertificateChoice::For(std::string_view server_name,
                                                       uint64_t now) const {
  Refresh(now);
  const std::string name = Normal(server_name);
  const auto exact = by_name_.find(name);
  if (exact != by_name_.end() && exact->second.valid) return exact->second.group;
  // A wildcard stands for exactly the first label (RFC 6125 6.4.3).
  if (const size_t dot = name.find('.'); dot != std::string::npos) {
    const auto wildcard = by_name_.find("*" + name.substr(dot));
    if (wildcard != by_name_.end() && (wildcard->second.valid || exact == by_name_.end()))
      return wildcard->second.group;
  }
  return exact != by_name_.end() ? exact->second.group : default_.group;
}

}  // namespace tlsbroker
