// SPDX-License-Identifier: Apache-2.0
#include "broker/keyholder/inspection.h"

#include <algorithm>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "broker/keyholder/chain.h"
#include "broker/keyholder/private_key.h"
#include "broker/support/report.h"
#include "broker/support/status.h"
#include "protocol/wire.h"

namespace tlsbroker {
namespace {

using supervision::CertificateFacts;
using About = CertificateFacts::About;
using Want = KeyFileReader::Want;

constexpr char kWantsChain[] = "the server's certificate and those of its issuers are needed";
constexpr char kWantsKey[] = "the private key that belongs to the certificate is needed";
constexpr char kWantsOther[] = "make a key of another kind, and have a certificate made for it";
constexpr char kWantsPassphrase[] = "the first line of its file has to be the passphrase";

// An error that ends the inspection.
struct Wrong {
  About about;
  std::string text;
  std::string right;
};

Wrong WrongChain(std::string text) { return {About::kChain, std::move(text), kWantsChain}; }
Wrong WrongKey(std::string text) { return {About::kKey, std::move(text), kWantsKey}; }

// FailedPrecondition is about the passphrase: it is wrong, or there is none, and then the text says
// behind its colon what to do.
Wrong WrongBecause(const absl::Status& status, Wrong (*otherwise)(std::string),
                   const Passphrase& passphrase) {
  Wrong wrong = otherwise(std::string(status.message()));
  if (status.code() != absl::StatusCode::kFailedPrecondition) return wrong;
  if (passphrase.given()) return {About::kPassphrase, std::move(wrong.text), kWantsPassphrase};
  const size_t colon = wrong.text.find(": ");
  if (colon == std::string::npos) return wrong;
  wrong.right = wrong.text.substr(colon + 2);
  wrong.text.resize(colon);
  return wrong;
}

class Inspection {
 public:
  Inspection(const supervision::Inspect& files, absl::StatusOr<EvpPkeyPtr> uri_key,
             KeyFileReader& reader, const SystemAuthorities& trusted)
      : files_(files), uri_key_(std::move(uri_key)), reader_(reader), trusted_(trusted) {}

  CertificateFacts Run() {
    CertificateFacts facts;
    if (const auto wrong = Fill(facts)) {
      facts.findings.push_back({true, wrong->about, wrong->text.substr(0, 1000), wrong->right});
    }
    return facts;
  }

 private:
  std::optional<Wrong> Fill(CertificateFacts& facts) {
    if (files_.has_passphrase) {
      if (const absl::Status read = passphrase_.Read(files_.passphrase.get()); !read.ok())
        return Wrong{About::kPassphrase, std::string(read.message()), kWantsPassphrase};
    }
    if (auto wrong = ReadChain()) return wrong;
    if (auto wrong = ReadKey()) return wrong;
    const auto [key, leaf] = Pair();
    if (leaf < 0) return WrongKey(NoMatch(key));
    X509* certificate = chain_.certificates[static_cast<size_t>(leaf)].certificate.get();
    const auto usable = PrivateKey::Create(std::move(keys_[key]), certificate);
    if (!usable.ok())
      return Wrong{About::kKey, std::string(usable.status().message()), kWantsOther};
    DescribeChain(chain_.certificates, static_cast<size_t>(leaf), trusted_, facts);
    return std::nullopt;
  }

  bool in_one_file() const { return !files_.has_key_file && files_.key_uri.empty(); }

  std::optional<Wrong> ReadChain() {
    auto read = reader_.Read(files_.chain.get(), in_one_file() ? Want::kBoth : Want::kCertificates,
                             passphrase_);
    if (!read.ok()) return WrongBecause(read.status(), WrongChain, passphrase_);
    chain_ = *std::move(read);
    if (!chain_.certificates.empty()) return std::nullopt;
    const std::string has = chain_.Summary();
    return WrongChain(
        absl::StrCat("no certificate found: expected PEM (BEGIN CERTIFICATE), DER or "
                     "PKCS#12",
                     has.empty() ? "" : "; ", has));
  }

  std::optional<Wrong> ReadKey() {
    if (in_one_file()) {
      keys_ = std::move(chain_.keys);
      if (keys_.empty()) return WrongKey(std::string(NoKeyIn(chain_).message()));
      return std::nullopt;
    }
    absl::Status failed;
    if (files_.has_key_file) {
      auto read = reader_.Read(files_.key_file.get(), Want::kKeys, passphrase_);
      failed = !read.ok() ? read.status() : read->keys.empty() ? NoKeyIn(*read) : absl::OkStatus();
      if (failed.ok()) keys_ = std::move(read->keys);
    } else {
      failed = uri_key_.status();
      if (uri_key_.ok()) keys_.push_back(*std::move(uri_key_));
    }
    if (failed.ok()) return std::nullopt;
    return WrongBecause(failed, WrongKey, passphrase_);
  }

  // The first key that has a certificate, and the latter's index; -1 without one.
  std::pair<size_t, int> Pair() const {
    for (size_t i = 0; i < keys_.size(); ++i) {
      const int leaf = LeafFor(keys_[i].get(), chain_.certificates);
      if (leaf >= 0) return {i, leaf};
    }
    return {0, -1};
  }

  std::string NoMatch(size_t key) const {
    const auto& certificates = chain_.certificates;
    X509* first = certificates.front().certificate.get();
    const std::string what =
        absl::StrCat("the private key (", KeyDescription(keys_[key].get()), ") does not match ");
    const std::string one = KeyDescription(X509_get0_pubkey(first));
    if (certificates.size() == 1)
      return absl::StrCat(what, "the certificate (", one, "; ", SubjectOf(first), ")");
    return absl::StrCat(what, "any of the ", certificates.size(), " certificates (the first is ",
                        one, "; ", SubjectOf(first), ")");
  }

  const supervision::Inspect& files_;
  absl::StatusOr<EvpPkeyPtr> uri_key_;
  KeyFileReader& reader_;
  const SystemAuthorities& trusted_;
  Passphrase passphrase_;
  KeyFile chain_;
  std::vector<EvpPkeyPtr> keys_;
};

}  // namespace

CertificateFacts FactsOf(const supervision::Inspect& files, absl::StatusOr<EvpPkeyPtr> uri_key,
                         KeyFileReader& reader, const SystemAuthorities& trusted) {
  return Inspection(files, std::move(uri_key), reader, trusted).Run();
}

absl::Status ReportFacts(uint16_t id, const CertificateFacts& facts) {
  std::vector<uint8_t> bytes = supervision::EncodeFacts(facts);
  if (bytes.empty()) {
    CertificateFacts failed;
    failed.findings.push_back({true, About::kChain, "it is too large", kWantsChain});
    bytes = supervision::EncodeFacts(failed);
  }
  for (size_t at = 0; at < bytes.size();) {
    const size_t size = std::min(bytes.size() - at, supervision::Inspected::kMaxPiece);
    supervision::Inspected message{.id = id, .last = at + size == bytes.size(), .piece = {}};
    message.piece.assign(bytes.begin() + static_cast<ptrdiff_t>(at),
                         bytes.begin() + static_cast<ptrdiff_t>(at + size));
    RETURN_IF_ERROR(ReportSurely(message));
    at += size;
  }
  return absl::OkStatus();
}

}  // namespace tlsbroker
