#include "broker/keyholder/snapshot.h"

#include <algorithm>
#include <string>
#include <utility>
#include <variant>

#include "broker/keyholder/key_files.h"
#include "broker/keyholder/private_key.h"
#include "broker/support/descriptors.h"
#include "broker/support/status.h"
#include "protocol/channel.h"

namespace tlsbroker {
namespace {

using supervision::Certificate;
using supervision::Failed;
using supervision::HandshakerChannel;

absl::StatusOr<supervision::Message> ReceiveMessage(int control) {
  channel::Message raw;
  switch (channel::Receive(control, supervision::kMaxMessage, 1, raw)) {
    case channel::Result::kOk:
      break;
    case channel::Result::kClosed:
      return absl::UnavailableError("the supervisor is gone");
    case channel::Result::kMalformed:
      return absl::InternalError("malformed packet from the supervisor");
    case channel::Result::kWouldBlock:
    case channel::Result::kError:
      return ErrnoStatus("control channel");
  }
  auto message = supervision::Decode(raw.bytes, std::move(raw.fds));
  if (!message) return absl::InternalError("malformed message from the supervisor");
  return *std::move(message);
}

absl::Status OutOfOrder() {
  return absl::InternalError("message out of order from the supervisor");
}

absl::Status WrongDescriptor() {
  return absl::InternalError("a descriptor from the supervisor is not what it should be");
}

absl::StatusOr<EvpPkeyPtr> ReadKey(const Certificate& certificate, KeyFileReader& files) {
  if (certificate.key_file) return files.Read(certificate.key_file.get());
  return ReadKeyUri(certificate.key_uri);
}

Failed Because(Failed::Subject subject, uint16_t id, const absl::Status& status) {
  return {subject, id, std::string(status.message())};
}

std::optional<Failed> LoadKey(const Certificate& certificate, KeyFileReader& files,
                              SignService& service) {
  const auto leaf = LeafOfChain(certificate.chain_pem);
  if (!leaf.ok()) {
    return Because(Failed::Subject::kCertificateChain, certificate.id, leaf.status());
  }
  auto read = ReadKey(certificate, files);
  if (!read.ok()) return Because(Failed::Subject::kCertificateKey, certificate.id, read.status());
  auto key = PrivateKey::Create(*std::move(read), leaf->get());
  if (!key.ok()) return Because(Failed::Subject::kCertificateKey, certificate.id, key.status());
  if (service.AddKey(certificate.id, *std::move(key))) return std::nullopt;
  return Failed{Failed::Subject::kOther, certificate.id, "two certificates have the same id"};
}

}  // namespace

absl::StatusOr<KeyholderSnapshot> ReceiveSnapshot(int control) {
  KeyholderSnapshot snapshot;
  ASSIGN_OR_RETURN(supervision::Message first, ReceiveMessage(control));
  if (!std::holds_alternative<supervision::Confinement>(first)) return OutOfOrder();
  snapshot.confinement = std::get<supervision::Confinement>(first);
  while (true) {
    ASSIGN_OR_RETURN(supervision::Message message, ReceiveMessage(control));
    if (auto* certificate = std::get_if<Certificate>(&message)) {
      const bool file = certificate->key_file.valid();
      if (file && !IsReadOnlyFile(certificate->key_file.get())) return WrongDescriptor();
      if (!snapshot.channels.empty()) return OutOfOrder();
      snapshot.certificates.push_back(std::move(*certificate));
    } else if (auto* channel = std::get_if<HandshakerChannel>(&message)) {
      if (!IsChannel(channel->channel.get())) return WrongDescriptor();
      snapshot.channels.push_back(std::move(*channel));
    } else if (std::holds_alternative<supervision::Start>(message)) {
      return snapshot;
    } else {
      return OutOfOrder();
    }
  }
}

std::optional<Failed> Load(KeyholderSnapshot snapshot, SignService& service) {
  KeyFileReader files;
  for (const Certificate& certificate : snapshot.certificates) {
    if (auto failed = LoadKey(certificate, files, service)) return failed;
  }
  for (HandshakerChannel& channel : snapshot.channels) {
    const RateLimit rate(channel.max_signatures, std::max(channel.max_signatures / 4, 1U));
    SignService::Permission permission{std::move(channel.certificate_ids),
                                       std::move(channel.client_certificate_ids)};
    if (service.AddChannel(channel.index, std::move(permission), std::move(channel.channel),
                           rate)) {
      continue;
    }
    return Failed{Failed::Subject::kOther, channel.index,
                  "a handshaker's channel names a certificate that is not there"};
  }
  return std::nullopt;
}

absl::Status Report(int control, const supervision::Message& message) {
  const supervision::Encoded encoded = supervision::Encode(message);
  if (channel::Send(control, encoded.bytes, encoded.fds) == channel::Result::kOk) {
    return absl::OkStatus();
  }
  return ErrnoStatus("cannot report to the supervisor");
}

}  // namespace tlsbroker
