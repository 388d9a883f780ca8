// SPDX-License-Identifier: Apache-2.0
#include "broker/keyholder/chain.h"

#include <arpa/inet.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <time.h>

#include <algorithm>
#include <array>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "broker/keyholder/private_key.h"
#include "broker/support/log.h"
#include "protocol/service_messages.h"

namespace tlsbroker {
namespace {

using supervision::CertificateFacts;
using Entry = KeyFile::Certificate;
using AccessPtr = OpensslPtr<AUTHORITY_INFO_ACCESS, AUTHORITY_INFO_ACCESS_free>;
using GeneralNamesPtr = OpensslPtr<GENERAL_NAMES, GENERAL_NAMES_free>;

constexpr size_t kMaxSubject = 200;
constexpr size_t kMaxStrangers = 4;  // that are named

bool Issued(X509* issuer, X509* certificate) {
  if (X509_check_issued(issuer, certificate) != X509_V_OK) return false;
  // Two authorities may have the same name.
  const bool signed_by = X509_verify(certificate, X509_get0_pubkey(issuer)) == 1;
  ERR_clear_error();
  return signed_by;
}

bool IsSelfSigned(X509* certificate) {
  (void)X509_check_purpose(certificate, -1, 0);  // computes the flags
  return (X509_get_extension_flags(certificate) & EXFLAG_SS) != 0;
}

bool IsValidNow(const X509* certificate) {
  return X509_cmp_current_time(X509_get0_notBefore(certificate)) < 0 &&
         X509_cmp_current_time(X509_get0_notAfter(certificate)) > 0;
}

uint64_t Seconds(const ASN1_TIME* time) {
  tm parts{};
  if (ASN1_TIME_to_tm(time, &parts) != 1) return 0;
  return static_cast<uint64_t>(std::max<time_t>(timegm(&parts), 0));
}

std::string NameText(const X509_NAME* name) {
  const BioPtr bio(BIO_new(BIO_s_mem()));
  (void)X509_NAME_print_ex(bio.get(), name, 0, XN_FLAG_RFC2253 & ~ASN1_STRFLGS_ESC_MSB);
  char* data = nullptr;
  const long size = BIO_get_mem_data(bio.get(), &data);
  std::string text =
      log::Printable(std::string_view(data, static_cast<size_t>(std::max<long>(size, 0))));
  if (text.empty()) return "no subject";
  if (text.size() > kMaxSubject) text.resize(kMaxSubject);
  return text;
}

// Where a certificate is and whose it is: "certificate 2 (line 23, CN=inter)".
std::string Named(const std::vector<Entry>& certificates, size_t index) {
  const Entry& one = certificates[index];
  const std::string line = one.line == 0 ? "" : absl::StrCat("line ", one.line, ", ");
  return absl::StrCat("certificate ", index + 1, " (", line, SubjectOf(one.certificate.get()), ")");
}

void Say(CertificateFacts& facts, bool error, std::string wrong, std::string right) {
  if (facts.findings.size() == CertificateFacts::kMaxFindings) return;
  facts.findings.push_back(
      {error, CertificateFacts::About::kChain, std::move(wrong), std::move(right)});
}

// Sorts the indices of a file's certificates.
class Sorter {
 public:
  Sorter(const std::vector<Entry>& certificates, size_t leaf)
      : certificates_(certificates), state_(certificates.size(), State::kStranger), leaf_(leaf) {
    for (size_t i = 0; i < state_.size(); ++i) {
      for (size_t j = 0; j < i && state_[i] != State::kTwice; ++j) {
        if (X509_cmp(Get(i), Get(j)) == 0) state_[i == leaf ? j : i] = State::kTwice;
      }
    }
    state_[leaf] = State::kChain;
    FollowIssuers();
    AddOtherIssuers();
  }

  // The leaf, then its issuers.
  std::vector<size_t> Order() const {
    std::vector<size_t> as_written;
    for (size_t i = 0; i < state_.size(); ++i)
      if (state_[i] == State::kChain) as_written.push_back(i);
    return IsInOrder(as_written) ? as_written : order_;
  }
  std::vector<size_t> Twice() const { return All(State::kTwice); }
  std::vector<size_t> Strangers() const { return All(State::kStranger); }
  // Whose issuer is not there, unless it has issued itself.
  size_t top() const { return top_; }

 private:
  enum class State { kStranger, kTwice, kChain };

  X509* Get(size_t index) const { return certificates_[index].certificate.get(); }

  std::vector<size_t> All(State state) const {
    std::vector<size_t> all;
    for (size_t i = 0; i < state_.size(); ++i)
      if (state_[i] == state) all.push_back(i);
    return all;
  }

  void Take(size_t index) {
    state_[index] = State::kChain;
    order_.push_back(index);
  }

  void FollowIssuers() {
    order_.push_back(leaf_);
    for (top_ = leaf_; !IsSelfSigned(Get(top_));) {
      std::optional<size_t> issuer;
      for (size_t i = 0; i < state_.size(); ++i) {
        if (state_[i] != State::kStranger || !Issued(Get(i), Get(top_))) continue;
        if (!issuer || (!IsValidNow(Get(*issuer)) && IsValidNow(Get(i)))) issuer = i;
      }
      if (!issuer) return;
      Take(*issuer);
      top_ = *issuer;
    }
  }

  // An authority may have several certificates, from several authorities: other ways up.
  void AddOtherIssuers() {
    for (bool found = true; found;) {
      found = false;
      for (size_t i = 0; i < state_.size(); ++i) {
        if (state_[i] != State::kStranger || !HasIssuedOneOf(i, order_)) continue;
        Take(i);
        found = true;
      }
    }
  }

  bool HasIssuedOneOf(size_t issuer, const std::vector<size_t>& others) const {
    return std::ranges::any_of(others, [&](size_t i) { return Issued(Get(issuer), Get(i)); });
  }

  // RFC 5246 section 7.4.2: the sender's first, each following one certifies the one before; RFC
  // 8446 section 4.4.2 is content with any order behind the first.
  bool IsInOrder(const std::vector<size_t>& order) const {
    if (order.front() != leaf_) return false;
    for (size_t n = 1; n < order.size(); ++n) {
      const std::vector<size_t> before(order.begin(), order.begin() + static_cast<ptrdiff_t>(n));
      if (!HasIssuedOneOf(order[n], before)) return false;
    }
    return true;
  }

  const std::vector<Entry>& certificates_;
  std::vector<State> state_;
  std::vector<size_t> order_;
  size_t leaf_;
  size_t top_ = 0;
};

std::string PemOf(const std::vector<Entry>& certificates, const std::vector<size_t>& order) {
  const BioPtr bio(BIO_new(BIO_s_mem()));
  for (const size_t index : order)
    (void)PEM_write_bio_X509(bio.get(), certificates[index].certificate.get());
  char* data = nullptr;
  const long size = BIO_get_mem_data(bio.get(), &data);
  return std::string(data, static_cast<size_t>(std::max<long>(size, 0)));
}

// ---- What handshakes refuse (ssl_security_cert() in ssl/t1_lib.c) ----

std::string SignatureName(const X509* certificate) {
  const char* name = OBJ_nid2ln(X509_get_signature_nid(certificate));
  return name != nullptr ? name : "an unknown algorithm";
}

void CheckStrength(const std::vector<Entry>& certificates, size_t index, CertificateFacts& facts) {
  X509* certificate = certificates[index].certificate.get();
  const EVP_PKEY* key = X509_get0_pubkey(certificate);
  constexpr char kRight[] = "no client can use it: get another one from the authority";
  if (key == nullptr || EVP_PKEY_get_security_bits(key) < supervision::kTlsSecurityBits) {
    Say(facts, true,
        absl::StrCat(Named(certificates, index), " has a key that is too weak (",
                     KeyDescription(key), ")"),
        kRight);
  }
  if (IsSelfSigned(certificate)) return;  // nobody verifies that signature
  int bits = 0;
  if (X509_get_signature_info(certificate, nullptr, nullptr, &bits, nullptr) == 1 &&
      bits >= supervision::kTlsSecurityBits) {
    return;
  }
  Say(facts, true,
      absl::StrCat(Named(certificates, index), " has a signature that is too weak (",
                   SignatureName(certificate), ")"),
      kRight);
}

// ---- What clients miss ----

// Public authorities, and most of those of companies, say where their certificate is to be had.
bool SaysWhereItsIssuerIs(const X509* certificate) {
  const AccessPtr access(static_cast<AUTHORITY_INFO_ACCESS*>(
      X509_get_ext_d2i(certificate, NID_info_access, nullptr, nullptr)));
  for (int i = 0; access && i < sk_ACCESS_DESCRIPTION_num(access.get()); ++i) {
    const ACCESS_DESCRIPTION* one = sk_ACCESS_DESCRIPTION_value(access.get(), i);
    if (OBJ_obj2nid(one->method) == NID_ad_ca_issuers) return true;
  }
  return false;
}

void CheckEnd(const std::vector<Entry>& certificates, size_t top, bool alone,
              const SystemAuthorities& trusted, CertificateFacts& facts) {
  X509* certificate = certificates[top].certificate.get();
  if (IsSelfSigned(certificate)) return;
  // A private root that is left out looks like an intermediate that is missing. Behind others it
  // probably is one, unless a public authority is at work.
  if (!alone && !SaysWhereItsIssuerIs(certificate)) return;
  if (trusted.HaveIssuerOf(certificate)) return;
  Say(facts, false,
      absl::StrCat("the issuer of ", Named(certificates, top), ", ",
                   NameText(X509_get_issuer_name(certificate)),
                   ", is not in the file, and this system does not trust it"),
      "if that is an intermediate authority, add its certificate: clients do not look for it");
}

// ---- Names and purposes of the server's certificate ----

std::string Text(const ASN1_STRING* text) {
  return std::string(reinterpret_cast<const char*>(ASN1_STRING_get0_data(text)),
                     static_cast<size_t>(ASN1_STRING_length(text)));
}

std::string AddressText(const ASN1_OCTET_STRING* address) {
  std::array<char, INET6_ADDRSTRLEN> text{};
  const int size = ASN1_STRING_length(address);
  if (size != 4 && size != 16) return "";
  (void)inet_ntop(size == 4 ? AF_INET : AF_INET6, ASN1_STRING_get0_data(address), text.data(),
                  text.size());
  return text.data();
}

void DescribeLeaf(X509* leaf, CertificateFacts& facts) {
  facts.key = KeyDescription(X509_get0_pubkey(leaf));
  facts.self_signed = IsSelfSigned(leaf);
  const uint32_t purposes = X509_get_extended_key_usage(leaf);  // all bits if there are none
  facts.for_servers = (purposes & (XKU_SSL_SERVER | XKU_ANYEKU | XKU_SGC)) != 0;
  facts.for_clients = (purposes & (XKU_SSL_CLIENT | XKU_ANYEKU)) != 0;
  facts.signs_handshakes = (X509_get_key_usage(leaf) & KU_DIGITAL_SIGNATURE) != 0;
  const GeneralNamesPtr names(
      static_cast<GENERAL_NAMES*>(X509_get_ext_d2i(leaf, NID_subject_alt_name, nullptr, nullptr)));
  for (int i = 0; names && i < sk_GENERAL_NAME_num(names.get()); ++i) {
    const GENERAL_NAME* name = sk_GENERAL_NAME_value(names.get(), i);
    const bool is_dns = name->type == GEN_DNS;
    if (!is_dns && name->type != GEN_IPADD) continue;
    auto& list = is_dns ? facts.names : facts.addresses;
    std::string text =
        is_dns ? log::Printable(Text(name->d.dNSName)) : AddressText(name->d.iPAddress);
    if (list.size() < CertificateFacts::kMaxNames && text.size() < 1024)
      list.push_back(std::move(text));
  }
  ERR_clear_error();
}

}  // namespace

std::string SubjectOf(const X509* certificate) {
  return NameText(X509_get_subject_name(certificate));
}

int LeafFor(const EVP_PKEY* key, const std::vector<KeyFile::Certificate>& certificates) {
  int first = -1;
  for (size_t i = 0; i < certificates.size(); ++i) {
    const EVP_PKEY* its = X509_get0_pubkey(certificates[i].certificate.get());
    if (its == nullptr || EVP_PKEY_eq(its, key) != 1) continue;
    if (IsValidNow(certificates[i].certificate.get())) return static_cast<int>(i);
    if (first < 0) first = static_cast<int>(i);
  }
  ERR_clear_error();
  return first;
}

void DescribeChain(const std::vector<KeyFile::Certificate>& certificates, size_t leaf,
                   const SystemAuthorities& trusted, CertificateFacts& facts) {
  const Sorter sorter(certificates, leaf);
  const std::vector<size_t> order = sorter.Order();
  facts.chain_pem = PemOf(certificates, order);
  if (facts.chain_pem.size() > supervision::kMaxChain) {
    Say(facts, true, absl::StrCat("a chain of ", facts.chain_pem.size(), " bytes of PEM"),
        absl::StrCat("at most ", supervision::kMaxChain, " are possible"));
    facts.chain_pem.clear();
  }
  for (const size_t index : order) {
    const X509* one = certificates[index].certificate.get();
    if (facts.links.size() < CertificateFacts::kMaxLinks) {
      facts.links.push_back(
          {SubjectOf(one), Seconds(X509_get0_notBefore(one)), Seconds(X509_get0_notAfter(one))});
    }
    CheckStrength(certificates, index, facts);
  }
  if (!std::ranges::is_sorted(order)) {
    Say(facts, false, "the chain is not in order, and is sent in the right one",
        absl::StrCat("put first ", Named(certificates, leaf),
                     ", then the one that has signed it, "
                     "and so on"));
  }
  if (const auto twice = sorter.Twice(); !twice.empty()) {
    const std::string more =
        twice.size() == 1 ? " is" : absl::StrCat(" and ", twice.size() - 1, " more are");
    Say(facts, false,
        absl::StrCat(Named(certificates, twice.front()), more, " there twice, and sent once"),
        "leave each certificate in the file once");
  }
  const auto strangers = sorter.Strangers();
  for (size_t i = 0; i < std::min(strangers.size(), kMaxStrangers); ++i) {
    Say(facts, false,
        absl::StrCat(Named(certificates, strangers[i]), " has not signed any of the chain"),
        "it is not sent; take it out, or add what is missing between");
  }
  CheckEnd(certificates, sorter.top(), order.size() == 1, trusted, facts);
  DescribeLeaf(certificates[leaf].certificate.get(), facts);
}

}  // namespace tlsbroker
