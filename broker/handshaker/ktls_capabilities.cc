// SPDX-License-Identifier: Apache-2.0
// The capability probe: what the kernel sends is opened by OpenSSL's AEAD, and what OpenSSL seals
// is read through the kernel. The keys are made from constants; they protect nothing.

#include "broker/handshaker/ktls_capabilities.h"

#include <algorithm>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "broker/handshaker/loopback.h"
#include "broker/handshaker/record_cipher.h"
#include "broker/support/status.h"

namespace tlsbroker {
namespace {

// Microseconds are enough; but a handshaker relays for its whole life whatever the probe did not
// see working, so a machine that is starved gets more time. The time is counted from after
// setsockopt(), which may load modules.
TimePoint Soon() { return std::chrono::steady_clock::now() + std::chrono::seconds(2); }

constexpr std::string_view kText = "the capability probe of tlsbroker";

SecretBytes Filled(size_t size, uint8_t value) {
  SecretBytes secret;
  std::ranges::fill(secret.Resize(size), value);
  return secret;
}

// `generation` makes the keys of a rekey differ.
absl::StatusOr<DirectionKeys> MakeKeys(OSSL_LIB_CTX* library, TlsVersion version, Suite suite,
                                       uint8_t generation) {
  if (version == TlsVersion::kTls13) {
    const Tls13Secrets secrets{Filled(32, 1), Filled(32, generation)};
    ASSIGN_OR_RETURN(SessionKeys keys, DeriveTls13(library, suite, "SHA256", secrets, 0));
    return std::move(keys.tx);
  }
  const Tls12Secrets secrets{Filled(48, generation), {}, {}};
  ASSIGN_OR_RETURN(SessionKeys keys, DeriveTls12(library, suite, "SHA256", secrets, {}));
  return std::move(keys.tx);
}

// Anything else that comes instead of a record, above all the plaintext, is recognized by its
// header.
absl::Status CheckSending(const LoopbackConnection& connection, RecordCipher& cipher,
                          TimePoint deadline) {
  RETURN_IF_ERROR(SendAll(connection.near.get(), kText, deadline));
  ASSIGN_OR_RETURN(std::string wire,
                   ReceiveExactly(connection.far.get(), kRecordHeaderSize, deadline));
  const size_t body = static_cast<uint8_t>(wire[3]) << 8 | static_cast<uint8_t>(wire[4]);
  if (wire[0] != kApplicationDataType ||
      body + kRecordHeaderSize != cipher.SealedSize(kText.size())) {
    return absl::DataLossError("what the kernel sent is not the expected record");
  }
  ASSIGN_OR_RETURN(const std::string rest, ReceiveExactly(connection.far.get(), body, deadline));
  ASSIGN_OR_RETURN(const Record record, cipher.Open(wire + rest));
  if (record.type != kApplicationDataType || record.text != kText) {
    return absl::DataLossError("the kernel's record does not hold what was written");
  }
  return absl::OkStatus();
}

absl::Status CheckReceiving(const LoopbackConnection& connection, RecordCipher& cipher,
                            TimePoint deadline) {
  ASSIGN_OR_RETURN(const std::string record, cipher.Seal(kApplicationDataType, kText));
  RETURN_IF_ERROR(SendAll(connection.far.get(), record, deadline));
  ASSIGN_OR_RETURN(const std::string text,
                   ReceiveExactly(connection.near.get(), kText.size(), deadline));
  if (text != kText) return absl::DataLossError("the kernel did not read what was sent");
  return absl::OkStatus();
}

const char* Suffix(Direction direction) { return direction == Direction::kTx ? "tx" : "rx"; }

// "kernel-no-aes-256-gcm-rx"
std::string Token(const char* who, Suite suite, Direction direction) {
  return absl::StrCat(who, "-no-", absl::AsciiStrToLower(SuiteName(suite)), "-", Suffix(direction));
}

DirectionSupport No(std::string reason, const absl::Status& why) {
  return {false, std::move(reason), std::string(why.message())};
}

}  // namespace

class CapabilityProbe {
 public:
  explicit CapabilityProbe(OSSL_LIB_CTX* library) : library_(library) {}

  KtlsCapabilities Run();

 private:
  DirectionSupport CheckUlp() const;
  DirectionSupport CheckDirection(TlsVersion version, Suite suite, Direction direction);
  DirectionSupport CheckRekey(const KtlsCapabilities& found, Direction direction) const;
  absl::Status CheckKeys(const LoopbackConnection& connection, TlsVersion version, Suite suite,
                         Direction direction, uint8_t generation) const;
  absl::StatusOr<LoopbackConnection> ConnectWithUlp() const;

  OSSL_LIB_CTX* library_;
  absl::StatusOr<LoopbackListener> listener_ = LoopbackListener::Create();
  // By suite: not OK once the kernel had no module for its AEAD. All versions and directions need
  // the same module, and the kernel would run modprobe each time that it is asked again.
  std::array<absl::Status, kSuites.size()> missing_;
};

KtlsCapabilities CapabilityProbe::Run() {
  KtlsCapabilities found;
  found.ulp_ = CheckUlp();
  for (const Direction direction : kDirections) {
    for (const TlsVersion version : kVersions) {
      for (const Suite suite : kSuites) {
        found.At(version, suite, direction) =
            found.ulp_.ok ? CheckDirection(version, suite, direction) : found.ulp_;
      }
    }
    found.rekey_[static_cast<size_t>(direction)] = CheckRekey(found, direction);
  }
  return found;
}

absl::StatusOr<LoopbackConnection> CapabilityProbe::ConnectWithUlp() const {
  RETURN_IF_ERROR(listener_.status());
  ASSIGN_OR_RETURN(LoopbackConnection connection, listener_->Connect(Soon()));
  RETURN_IF_ERROR(EnableUlp(connection.near.get()));
  return connection;
}

DirectionSupport CapabilityProbe::CheckUlp() const {
  if (!listener_.ok()) return No("probe-no-loopback", listener_.status());
  const auto connection = listener_->Connect(Soon());
  if (!connection.ok()) return No("probe-no-loopback", connection.status());
  const absl::Status enabled = EnableUlp(connection->near.get());
  return enabled.ok() ? DirectionSupport{true, "", ""} : No("kernel-no-tls-ulp", enabled);
}

// Installs keys at the near end, then sends a record over the wire.
absl::Status CapabilityProbe::CheckKeys(const LoopbackConnection& connection, TlsVersion version,
                                        Suite suite, Direction direction,
                                        uint8_t generation) const {
  ASSIGN_OR_RETURN(const DirectionKeys keys, MakeKeys(library_, version, suite, generation));
  ASSIGN_OR_RETURN(RecordCipher cipher, RecordCipher::Create(library_, version, suite, keys));
  RETURN_IF_ERROR(InstallDirection(connection.near.get(), direction, keys));
  return direction == Direction::kTx ? CheckSending(connection, cipher, Soon())
                                     : CheckReceiving(connection, cipher, Soon());
}

DirectionSupport CapabilityProbe::CheckDirection(TlsVersion version, Suite suite,
                                                 Direction direction) {
  absl::Status& missing = missing_[static_cast<size_t>(suite)];
  if (!missing.ok()) return No(Token("kernel", suite, direction), missing);
  if (const EvpCipherPtr cipher(EVP_CIPHER_fetch(library_, SuiteName(suite), nullptr)); !cipher) {
    return No(Token("openssl", suite, direction),
              OpensslStatus("nothing to check the kernel with"));
  }
  const auto connection = ConnectWithUlp();
  if (!connection.ok()) return No("probe-no-loopback", connection.status());
  const absl::Status status = CheckKeys(*connection, version, suite, direction, 1);
  if (status.ok()) return {true, "", ""};
  if (status.code() == absl::StatusCode::kNotFound) missing = status;
  return No(Token("kernel", suite, direction), status);
}

DirectionSupport CapabilityProbe::CheckRekey(const KtlsCapabilities& found,
                                             Direction direction) const {
  const auto suite = std::ranges::find_if(
      kSuites, [&](Suite each) { return found.Get(TlsVersion::kTls13, each, direction).ok; });
  if (suite == kSuites.end()) return found.Get(TlsVersion::kTls13, kSuites.front(), direction);
  const auto connection = ConnectWithUlp();
  if (!connection.ok()) return No("probe-no-loopback", connection.status());
  for (const uint8_t generation : {1, 2}) {
    const absl::Status status =
        CheckKeys(*connection, TlsVersion::kTls13, *suite, direction, generation);
    if (!status.ok()) return No(absl::StrCat("kernel-no-rekey-", Suffix(direction)), status);
  }
  return {true, "", ""};
}

KtlsCapabilities KtlsCapabilities::Probe(OSSL_LIB_CTX* library) {
  return CapabilityProbe(library).Run();
}

DirectionSupport& KtlsCapabilities::At(TlsVersion version, Suite suite, Direction direction) {
  return combos_[static_cast<size_t>(version)][static_cast<size_t>(suite)]
                [static_cast<size_t>(direction)];
}

const DirectionSupport& KtlsCapabilities::Get(TlsVersion version, Suite suite,
                                              Direction direction) const {
  return combos_[static_cast<size_t>(version)][static_cast<size_t>(suite)]
                [static_cast<size_t>(direction)];
}

bool KtlsCapabilities::Supports(TlsVersion version, Suite suite) const {
  return std::ranges::all_of(
      kDirections, [&](Direction direction) { return Get(version, suite, direction).ok; });
}

std::string KtlsCapabilities::Reason(TlsVersion version, Suite suite) const {
  for (const Direction direction : kDirections) {
    if (const auto& support = Get(version, suite, direction); !support.ok) return support.reason;
  }
  return "";
}

const DirectionSupport& KtlsCapabilities::rekey(Direction direction) const {
  return rekey_[static_cast<size_t>(direction)];
}

}  // namespace tlsbroker
