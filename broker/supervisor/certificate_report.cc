// SPDX-License-Identifier: Apache-2.0
#include "broker/supervisor/certificate_report.h"

#include <time.h>

#include <algorithm>
#include <array>
#include <map>
#include <optional>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "broker/support/log.h"

namespace tlsbroker::supervisor {
namespace {

using supervision::CertificateFacts;
using About = CertificateFacts::About;

constexpr uint64_t kDay = 24 * 60 * 60;
// A certificate is about to expire when this much is left, or a quarter of its time if that is
// less: by then everything that renews by itself has done so.
constexpr uint64_t kSoon = 14 * kDay;
constexpr size_t kNamesInALine = 4;

std::string Date(uint64_t seconds) {
  const auto time = static_cast<time_t>(seconds);
  tm parts{};
  std::array<char, 32> text{};
  if (gmtime_r(&time, &parts) == nullptr) return "?";
  (void)strftime(text.data(), text.size(), "%Y-%m-%d %H:%M:%SZ", &parts);
  return text.data();
}

std::string Days(uint64_t seconds) {
  const uint64_t days = seconds / kDay;
  if (days == 0) return absl::StrCat(seconds / 3600, " hours");
  return absl::StrCat(days, days == 1 ? " day" : " days");
}

// One certificate and where it is used.
struct Subject {
  const CertificateConfig* config = nullptr;
  const Credential* credential = nullptr;
  bool server = false;
  bool client = false;
  bool can_be_asked_for = false;  // in some service
  std::string hidden_by;          // in another one
};

bool IsLabel(absl::string_view label) {
  return !label.empty() && label.size() <= 63 && std::ranges::all_of(label, [](char c) {
    return absl::ascii_isalnum(static_cast<unsigned char>(c)) || c == '-' || c == '_';
  });
}

bool IsAddress(absl::string_view name) {
  return std::ranges::all_of(
      name, [](char c) { return absl::ascii_isdigit(static_cast<unsigned char>(c)) || c == '.'; });
}

// A name that a client can ask for (RFC 6066 section 3), or a wildcard for its first label that
// clients accept (RFC 6125 section 6.4.3), which is none right below a top level domain.
bool CanBeAskedFor(absl::string_view name) {
  (void)absl::ConsumeSuffix(&name, ".");
  std::vector<absl::string_view> labels = absl::StrSplit(name, '.');
  if (name.size() > 253 || IsAddress(name)) return false;
  if (labels.front() == "*") {
    if (labels.size() < 3) return false;
    labels.erase(labels.begin());
  }
  return std::ranges::all_of(labels, IsLabel);
}

std::string Normal(absl::string_view name) {
  (void)absl::ConsumeSuffix(&name, ".");
  return absl::AsciiStrToLower(name);
}

// As handshakers distinguish them: one of each kind is shown for a name.
std::string KindOfKey(const CertificateFacts& facts) {
  return facts.key.substr(0, facts.key.find(' '));
}

bool IsValid(const CertificateFacts& facts, uint64_t now) {
  return !facts.links.empty() && facts.links[0].not_before <= now && now < facts.links[0].not_after;
}

class Reporter {
 public:
  Reporter(const Setup& setup, uint64_t now, Diagnostics& diagnostics)
      : setup_(setup), now_(now), diagnostics_(diagnostics) {
    for (const auto& service : setup.services) {
      for (const uint16_t id : service->server_certificates)
        Of(service->certificates[id]).server = true;
      for (const uint16_t id : service->client_certificates)
        Of(service->certificates[id]).client = true;
      for (const auto& upstream : service->upstreams)
        if (upstream.certificate) Of(service->certificates[*upstream.certificate]).client = true;
    }
    for (const auto& service : setup.services) FindWhoIsAskedFor(*service);
  }

  std::vector<std::string> Run(const std::set<const Credential*>& known) {
    std::vector<std::string> lines;
    for (const Credential* credential : order_) {
      subject_ = &subjects_[credential];
      Report();
      if (!credential->chain_pem.empty() && !known.contains(credential)) lines.push_back(Line());
    }
    return lines;
  }

 private:
  Subject& Of(const ServiceSetup::Certificate& certificate) {
    const Credential* credential = certificate.credential.get();
    const auto [place, is_new] = subjects_.try_emplace(credential);
    if (is_new) {
      place->second.config = &certificate.config;
      place->second.credential = credential;
      order_.push_back(credential);
    }
    return place->second;
  }

  const CertificateFacts& facts() const { return subject_->credential->facts; }

  const At<Source>& SourceOf(About about) const {
    const CertificateConfig& config = *subject_->config;
    if (about == About::kPassphrase && config.passphrase) return *config.passphrase;
    return about == About::kChain ? config.chain : config.key;
  }

  // When a key was renewed, and its certificate, a reload finds the credential as it was before.
  std::string CopyHint() const {
    const CertificateConfig& config = *subject_->config;
    const auto is_copy = [](const Source& source) {
      return source.kind == Source::Kind::kCredential;
    };
    const bool copies = is_copy(config.chain.value) || is_copy(config.key.value) ||
                        (config.passphrase && is_copy(config.passphrase->value));
    if (!copies) return "";
    return "; a credential is a copy that the service manager made when it started the broker, so "
           "restart the broker if the file behind it was renewed (tlsbroker.toml(5))";
  }

  void Say(bool error, About about, const std::string& wrong, const std::string& right) {
    const At<Source>& source = SourceOf(about);
    const std::string file = source.value.kind == Source::Kind::kCredential
                                 ? "cred:" + source.value.text
                                 : source.value.text;
    const std::string text =
        absl::StrCat("certificate \"", subject_->config->name.value, "\": ", file, ": ", wrong);
    error ? diagnostics_.Error(source.position, text, right + CopyHint())
          : diagnostics_.Warning(source.position, text, right);
  }
  void Warn(const std::string& wrong, const std::string& right) {
    Say(false, About::kChain, wrong, right);
  }

  // Handshakers show the first certificate of a kind that is valid for a name; whoever asks for no
  // name, or for an unknown one, gets the first of the service, and others with one of its names.
  void FindWhoIsAskedFor(const ServiceSetup& service) {
    std::map<std::pair<std::string, std::string>, std::string> taken;  // kind and name
    std::set<std::string> of_default;
    for (const uint16_t id : service.server_certificates) {
      const auto& certificate = service.certificates[id];
      const CertificateFacts& facts = certificate.credential->facts;
      Subject& subject = Of(certificate);
      const bool is_default = id == service.server_certificates.front();
      if (is_default) subject.can_be_asked_for = true;
      for (const std::string& written : facts.names) {
        if (!CanBeAskedFor(written)) continue;
        const std::string name = Normal(written);
        const auto [place, is_new] =
            taken.try_emplace({KindOfKey(facts), name}, certificate.config.name.value);
        if (is_new || !IsValid(facts, now_)) {
          subject.can_be_asked_for = true;
          if (is_new && !IsValid(facts, now_)) taken.erase(place);
        } else if (place->second != certificate.config.name.value) {
          subject.hidden_by = place->second;
        }
      }
    }
  }

  void Report() {
    for (const CertificateFacts::Finding& finding : facts().findings)
      Say(finding.error, finding.about, finding.wrong, finding.right);
    if (subject_->credential->chain_pem.empty()) return;
    ReportTimes();
    ReportPurposes();
    if (subject_->server) ReportNames();
  }

  void ReportTimes() {
    for (size_t i = 0; i < facts().links.size(); ++i) {
      const CertificateFacts::Link& link = facts().links[i];
      const std::string who = i == 0 ? "it " : absl::StrCat("its issuer ", link.subject, " ");
      const std::string right = i == 0 ? "clients refuse it: renew it"
                                       : "clients may refuse it: take the authority's present "
                                         "certificate";
      if (now_ >= link.not_after) {
        Warn(absl::StrCat(who, "expired on ", Date(link.not_after)), right);
      } else if (now_ < link.not_before) {
        Warn(absl::StrCat(who, "is not valid before ", Date(link.not_before)),
             "clients refuse it until then: look at the clock of this machine, and at the file");
      } else if (const uint64_t left = link.not_after - now_;
                 left < std::min(kSoon, (link.not_after - link.not_before) / 4)) {
        Warn(absl::StrCat(who, "expires in ", Days(left), ", on ", Date(link.not_after)),
             i == 0 ? "renew it" : "take the authority's present certificate");
      }
    }
  }

  void ReportPurposes() {
    if (subject_->server && !facts().for_servers) {
      Warn("it is not for servers, by its extended key usage",
           "clients refuse it: get one with serverAuth");
    }
    if (subject_->client && !facts().for_clients) {
      Warn("it is not for clients, by its extended key usage, and is used as one's",
           "servers refuse it: get one with clientAuth");
    }
    if (!facts().signs_handshakes) {
      Warn("it is not for signatures, by its key usage, and each handshake needs one",
           "TLS 1.2 fails, and many clients refuse it: get one with digitalSignature");
    }
  }

  void ReportNames() {
    if (facts().names.empty() && facts().addresses.empty()) {
      Warn("it has no name (subjectAltName)",
           "clients do not look at the common name any more: get one with the names that they ask "
           "for");
      return;
    }
    std::vector<std::string> odd;
    for (const std::string& name : facts().names)
      if (!CanBeAskedFor(name) && odd.size() < kNamesInALine) odd.push_back("\"" + name + "\"");
    if (!odd.empty()) {
      Warn(absl::StrCat("no client can ask for ", absl::StrJoin(odd, ", ")),
           "a host name is needed, or *. and one with two labels; addresses are names of their own "
           "kind (IP:)");
    }
    if (subject_->can_be_asked_for) return;
    if (subject_->hidden_by.empty()) {
      Warn("no client can ask for it: it has no host name, and is not the first of a service",
           "put it first in 'certificates', or leave it out");
    } else {
      Warn(absl::StrCat("it is shown to nobody as long as \"", subject_->hidden_by,
                        "\" is valid, which comes before it and has its names"),
           "leave one of them out of 'certificates'");
    }
  }

  std::string Line() const {
    std::vector<std::string> names = facts().names;
    names.insert(names.end(), facts().addresses.begin(), facts().addresses.end());
    const size_t more = names.size() > kNamesInALine ? names.size() - kNamesInALine : 0;
    names.resize(names.size() - more);
    std::string text = absl::StrCat("certificate \"", subject_->config->name.value,
                                    "\": ", names.empty() ? "no name" : absl::StrJoin(names, ", "));
    if (more > 0) absl::StrAppend(&text, " and ", more, " more");
    const CertificateFacts::Link& leaf = facts().links.front();
    absl::StrAppend(&text, "; ", facts().key, "; ", facts().links.size(),
                    facts().links.size() == 1 ? " certificate" : " certificates", "; valid until ",
                    Date(leaf.not_after));
    if (leaf.not_after > now_) absl::StrAppend(&text, ", ", Days(leaf.not_after - now_));
    return log::Printable(text);
  }

  const Setup& setup_;
  const uint64_t now_;
  Diagnostics& diagnostics_;
  std::map<const Credential*, Subject> subjects_;
  std::vector<const Credential*> order_;
  Subject* subject_ = nullptr;
};

}  // namespace

std::vector<std::string> ReportCertificates(const Setup& setup,
                                            const std::set<const Credential*>& known,
                                            std::chrono::system_clock::time_point now,
                                            Diagnostics& diagnostics) {
  const auto seconds =
      std::chrono::duration_cast<std::chrono::seconds>(now.time_since_epoch()).count();
  return Reporter(setup, static_cast<uint64_t>(std::max<int64_t>(seconds, 0)), diagnostics)
      .Run(known);
}

}  // namespace tlsbroker::supervisor
