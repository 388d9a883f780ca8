// SPDX-License-Identifier: Apache-2.0
#include "broker/keyholder/snapshot.h"

#include <openssl/crypto.h>
#include <sys/resource.h>

#include <algorithm>
#include <ctime>
#include <string>
#include <utility>
#include <variant>

#include "broker/keyholder/inspection.h"
#include "broker/keyholder/key_files.h"
#include "broker/keyholder/private_key.h"
#include "broker/support/descriptors.h"
#include "broker/support/status.h"
#include "protocol/supervision.h"

namespace tlsbroker {
namespace {

using supervision::Certificate;
using supervision::Failed;
using supervision::HandshakerChannel;
using supervision::Inspect;

template <typename Message>
using WithKey = KeyholderSnapshot::WithKey<Message>;

template <typename Message>
absl::StatusOr<EvpPkeyPtr> ReadUriKey(const Message& message) {
  Passphrase passphrase;
  if (message.has_passphrase) RETURN_IF_ERROR(passphrase.Read(message.passphrase.get()));
  return ReadKeyUri(message.key_uri, passphrase);
}

template <typename Message>
void ReadUriKeys(std::vector<WithKey<Message>>& all) {
  for (auto& [message, uri_key] : all) {
    if (!message.key_uri.empty()) uri_key = ReadUriKey(message);
  }
}

// The key in the file that belongs to the certificate, or any if none does.
absl::StatusOr<EvpPkeyPtr> ReadKeyFile(const Certificate& certificate, X509* leaf,
                                       KeyFileReader& files) {
  Passphrase passphrase;
  if (certificate.has_passphrase) RETURN_IF_ERROR(passphrase.Read(certificate.passphrase.get()));
  ASSIGN_OR_RETURN(KeyFile file,
                   files.Read(certificate.key_file.get(), KeyFileReader::Want::kKeys, passphrase));
  if (file.keys.empty()) return NoKeyIn(file);
  for (EvpPkeyPtr& key : file.keys) {
    if (EVP_PKEY_eq(X509_get0_pubkey(leaf), key.get()) == 1) return std::move(key);
  }
  ERR_clear_error();
  return std::move(file.keys.front());
}

Failed Because(Failed::Subject subject, uint16_t id, const absl::Status& status) {
  return {subject, id, std::string(status.message())};
}

std::optional<Failed> LoadKey(WithKey<Certificate> with_key, KeyFileReader& files,
                              SignService& service) {
  const Certificate& certificate = with_key.message;
  const auto leaf = LeafOfChain(certificate.chain_pem);
  if (!leaf.ok()) {
    return Because(Failed::Subject::kCertificateChain, certificate.id, leaf.status());
  }
  auto read = certificate.key_uri.empty() ? ReadKeyFile(certificate, leaf->get(), files)
                                          : std::move(with_key.uri_key);
  if (!read.ok()) return Because(Failed::Subject::kCertificateKey, certificate.id, read.status());
  auto key = PrivateKey::Create(*std::move(read), leaf->get());
  if (!key.ok()) return Because(Failed::Subject::kCertificateKey, certificate.id, key.status());
  if (service.AddKey(certificate.id, *std::move(key))) return std::nullopt;
  return Failed{Failed::Subject::kOther, certificate.id, "two certificates have the same id"};
}

std::optional<Failed> Look(WithKey<Inspect> with_key, KeyFileReader& files,
                           const SystemAuthorities& trusted) {
  const Inspect& inspect = with_key.message;
  const absl::Status reported =
      ReportFacts(inspect.id, FactsOf(inspect, std::move(with_key.uri_key), files, trusted));
  if (reported.ok()) return std::nullopt;
  return Because(Failed::Subject::kOther, inspect.id, reported);
}

bool NeedsOlderCiphers(const KeyholderSnapshot& snapshot) {
  return std::ranges::any_of(snapshot.certificates,
                             [](const WithKey<Certificate>& with_key) {
                               const Certificate& one = with_key.message;
                               return one.has_passphrase || MayNeedOlderCiphers(one.key_file.get());
                             }) ||
         std::ranges::any_of(snapshot.inspections, [](const WithKey<Inspect>& with_key) {
           const Inspect& one = with_key.message;
           return one.has_passphrase || MayNeedOlderCiphers(one.chain.get()) ||
                  MayNeedOlderCiphers(one.key_file.get());
         });
}

constexpr char kUnknownCertificate[] =
    "a handshaker's channel names a certificate that is not there";

bool AddChannel(HandshakerChannel channel, SignService& service) {
  const RateLimit rate(channel.max_signatures, std::max(channel.max_signatures / 4, 1U));
  SignService::Permission permission{std::move(channel.certificate_ids),
                                     std::move(channel.client_certificate_ids), channel.policy};
  return service.AddChannel(channel.index, std::move(permission),
                            {std::move(channel.requests), std::move(channel.answers)}, rate);
}

}  // namespace

absl::StatusOr<KeyholderSnapshot> ReceiveSnapshot(ControlEnd& control) {
  KeyholderSnapshot snapshot;
  while (true) {
    ASSIGN_OR_RETURN(supervision::Message message, control.Next());
    if (const auto* confinement = std::get_if<supervision::Confinement>(&message)) {
      snapshot.confinement = *confinement;
    } else if (auto* certificate = std::get_if<Certificate>(&message)) {
      const bool file = certificate->key_file.valid();
      if (file && !IsReadOnlyFile(certificate->key_file.get())) return WrongDescriptor();
      const bool passphrase = certificate->has_passphrase;
      if (passphrase && !IsReadOnlyFile(certificate->passphrase.get())) return WrongDescriptor();
      snapshot.certificates.push_back({.message = std::move(*certificate)});
    } else if (auto* inspect = std::get_if<Inspect>(&message)) {
      for (const UniqueFd* fd : {&inspect->chain, &inspect->key_file, &inspect->passphrase})
        if (*fd && !IsReadOnlyFile(fd->get())) return WrongDescriptor();
      snapshot.inspections.push_back({.message = std::move(*inspect)});
    } else if (auto* channel = std::get_if<HandshakerChannel>(&message)) {
      if (!IsPipeForReading(channel->requests.get())) return WrongDescriptor();
      if (!IsPipeForWriting(channel->answers.get())) return WrongDescriptor();
      snapshot.channels.push_back(std::move(*channel));
    } else {
      return snapshot;  // Start
    }
  }
}

absl::Status LoadFromOutside(KeyholderSnapshot& snapshot) {
  (void)OPENSSL_init_crypto(OPENSSL_INIT_LOAD_CONFIG, nullptr);
  tzset();  // reads /etc/localtime, as gmtime(3) otherwise would with the first date
  if (NeedsOlderCiphers(snapshot)) LoadOlderCiphers();
  if (!snapshot.inspections.empty()) {
    snapshot.trusted = SystemAuthorities::Open();
    // The supervisor waits no longer, and if it is gone nobody else ends what computes for a file.
    const rlimit minute{60, 60};
    if (setrlimit(RLIMIT_CPU, &minute) != 0) return ErrnoStatus("setrlimit");
  }
  ReadUriKeys(snapshot.certificates);
  ReadUriKeys(snapshot.inspections);
  WipeStack();
  return absl::OkStatus();
}

std::optional<Failed> Load(KeyholderSnapshot snapshot, SignService& service) {
  KeyFileReader files;
  for (auto& certificate : snapshot.certificates) {
    if (auto failed = LoadKey(std::move(certificate), files, service)) return failed;
  }
  for (auto& inspect : snapshot.inspections) {
    if (auto failed = Look(std::move(inspect), files, snapshot.trusted)) return failed;
  }
  WipeStack();
  for (HandshakerChannel& channel : snapshot.channels) {
    const uint16_t index = channel.index;
    if (AddChannel(std::move(channel), service)) continue;
    return Failed{Failed::Subject::kOther, index, kUnknownCertificate};
  }
  return std::nullopt;
}

absl::StatusOr<bool> FollowSupervisor(ControlEnd& control, SignService& service) {
  auto message = control.Next();
  if (absl::IsUnavailable(message.status())) return false;
  RETURN_IF_ERROR(message.status());
  if (!AddChannel(std::get<HandshakerChannel>(*std::move(message)), service))
    return absl::InternalError(kUnknownCertificate);
  return true;
}

}  // namespace tlsbroker
