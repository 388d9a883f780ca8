// SPDX-License-Identifier: Apache-2.0
// See the header. One record a line, fields separated by tabs:
//
//   kernel     RELEASE
//   openssl    VERSION
//   ulp        yes|no REASON DETAIL
//   direction  VERSION SUITE tx|rx yes|no REASON DETAIL
//   offer      VERSION SUITE yes|no           whether this OpenSSL negotiates it by default
//   rekey      tx|rx yes|no REASON DETAIL
//
// client-lib/tools/probe_report.cc reads it; both come from one build.

#include "broker/handshaker/probe_main.h"

#include <openssl/crypto.h>
#include <openssl/ssl.h>
#include <sys/utsname.h>

#include <array>
#include <cstdio>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "broker/handshaker/ktls_capabilities.h"
#include "broker/support/openssl_ptr.h"

namespace tlsbroker {
namespace {

// REASON and DETAIL hold no tabs: they are ours and strerror()'s.
std::string Fields(const DirectionSupport& support) {
  return absl::StrJoin({support.ok ? "yes" : "no", support.reason.c_str(), support.detail.c_str()},
                       "\t");
}

const char* Name(Direction direction) { return direction == Direction::kTx ? "tx" : "rx"; }

// What OpenSSL offers by its own defaults, its security level included; main() keeps the system's
// openssl.cnf out.
class OpensslOffer {
 public:
  OpensslOffer() {
    const SslCtxPtr context(SSL_CTX_new(TLS_method()));
    const SslPtr ssl(context ? SSL_new(context.get()) : nullptr);
    STACK_OF(SSL_CIPHER)* ciphers = ssl ? SSL_get1_supported_ciphers(ssl.get()) : nullptr;
    for (int i = 0; i < sk_SSL_CIPHER_num(ciphers); ++i) Note(sk_SSL_CIPHER_value(ciphers, i));
    sk_SSL_CIPHER_free(ciphers);
  }

  bool Has(TlsVersion version, Suite suite) const {
    return offered_[static_cast<size_t>(version)][static_cast<size_t>(suite)];
  }

 private:
  void Note(const SSL_CIPHER* cipher) {
    const std::string_view version = SSL_CIPHER_get_version(cipher);
    const auto suite = SuiteOf(SSL_CIPHER_get_protocol_id(cipher));
    for (const TlsVersion each : kVersions) {
      if (suite && version == VersionName(each)) {
        offered_[static_cast<size_t>(each)][static_cast<size_t>(*suite)] = true;
      }
    }
  }

  std::array<std::array<bool, kSuites.size()>, kVersions.size()> offered_{};
};

std::string ReportText() {
  const KtlsCapabilities found = KtlsCapabilities::Probe(nullptr);
  const OpensslOffer offer;
  utsname system{};
  uname(&system);
  std::string out =
      absl::StrCat("kernel\t", system.release, "\nopenssl\t", OpenSSL_version(OPENSSL_VERSION),
                   "\nulp\t", Fields(found.ulp_support()), "\n");
  for (const TlsVersion version : kVersions) {
    for (const Suite suite : kSuites) {
      const std::string combination = absl::StrCat(VersionName(version), "\t", SuiteName(suite));
      for (const Direction direction : kDirections) {
        absl::StrAppend(&out, "direction\t", combination, "\t", Name(direction), "\t",
                        Fields(found.Get(version, suite, direction)), "\n");
      }
      absl::StrAppend(&out, "offer\t", combination, "\t", offer.Has(version, suite) ? "yes" : "no",
                      "\n");
    }
  }
  for (const Direction direction : kDirections) {
    absl::StrAppend(&out, "rekey\t", Name(direction), "\t", Fields(found.rekey(direction)), "\n");
  }
  return out;
}

}  // namespace

int ProbeMain() {
  const std::string report = ReportText();
  const bool written = fwrite(report.data(), 1, report.size(), stdout) == report.size();
  return written && fflush(stdout) == 0 ? 0 : 1;
}

}  // namespace tlsbroker
