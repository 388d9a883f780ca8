// SPDX-License-Identifier: Apache-2.0
#include "broker/keyholder/key_files.h"

#include <openssl/pem.h>
#include <openssl/pkcs7.h>
#include <openssl/ui.h>
#include <unistd.h>

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "broker/support/status.h"

namespace tlsbroker {
namespace {

using Want = KeyFileReader::Want;

using Pkcs7Ptr = OpensslPtr<PKCS7, PKCS7_free>;
using Pkcs12Ptr = OpensslPtr<PKCS12, PKCS12_free>;
using UiMethodPtr = OpensslPtr<UI_METHOD, UI_destroy_method>;

constexpr char kLegacy[] =
    " (OpenSSL's legacy provider, which older ciphers need, cannot be loaded: Debian has it in "
    "openssl-provider-legacy)";

constexpr uint8_t kSequence = 0x30;  // DER begins with it

bool HasLegacy() { return OSSL_PROVIDER_available(nullptr, "legacy") == 1; }

absl::Status WithoutPassphrase(const Passphrase& passphrase, absl::string_view what) {
  ERR_clear_error();
  if (passphrase.given()) {
    return absl::FailedPreconditionError(
        absl::StrCat("the passphrase does not open ", what, HasLegacy() ? "" : kLegacy));
  }
  return absl::FailedPreconditionError(absl::StrCat(
      what,
      " is encrypted: name the file with its passphrase (passphrase = \"/path\" or "
      "\"cred:NAME\"), or decrypt it (openssl pkey -in OLD -out NEW) and protect the file by "
      "its permissions"));
}

absl::Status NoKey(const Passphrase& passphrase) {
  if (passphrase.asked()) return WithoutPassphrase(passphrase, "the private key");
  return OpensslStatus(
      "no private key found: expected one in PEM (BEGIN PRIVATE KEY), DER or "
      "PKCS#12",
      absl::StatusCode::kInvalidArgument);
}

absl::StatusOr<EvpPkeyPtr> FirstKey(OSSL_STORE_CTX* store, const Passphrase& passphrase) {
  // Without this, certificates in front of the key would be decoded and returned as well.
  (void)OSSL_STORE_expect(store, OSSL_STORE_INFO_PKEY);
  while (!OSSL_STORE_eof(store)) {
    const OsslStoreInfoPtr info(OSSL_STORE_load(store));
    if (info == nullptr) {
      if (OSSL_STORE_error(store) || passphrase.asked()) break;
      continue;
    }
    if (OSSL_STORE_INFO_get_type(info.get()) != OSSL_STORE_INFO_PKEY) continue;
    EvpPkeyPtr key(OSSL_STORE_INFO_get1_PKEY(info.get()));
    ERR_clear_error();  // of the formats that were tried before
    if (key != nullptr) return key;
  }
  return NoKey(passphrase);
}

// A key that is neither PEM nor PKCS#12: DER in any form, and what else OSSL_STORE knows.
absl::StatusOr<EvpPkeyPtr> StoredKey(std::span<const uint8_t> bytes, Passphrase& passphrase) {
  const BioPtr bio(BIO_new_mem_buf(bytes.data(), static_cast<int>(bytes.size())));
  const UiMethodPtr ui(UI_UTIL_wrap_read_pem_callback(Passphrase::Give, 0));
  const OsslStoreCtxPtr store(OSSL_STORE_attach(bio.get(), "file", nullptr, nullptr, ui.get(),
                                                &passphrase, nullptr, nullptr, nullptr));
  if (store == nullptr) return OpensslStatus("cannot read the private key");
  return FirstKey(store.get(), passphrase);
}

// ---- Files that are not PEM ----

void TakeStack(STACK_OF(X509) * stack, KeyFile& file) {
  for (int i = 0; i < sk_X509_num(stack); ++i) {
    X509* certificate = sk_X509_value(stack, i);
    X509_up_ref(certificate);
    file.certificates.push_back({X509Ptr(certificate), 0});
  }
}

bool TakePkcs7(const PKCS7* message, KeyFile& file) {
  if (message == nullptr || !PKCS7_type_is_signed(message) || message->d.sign == nullptr)
    return false;
  TakeStack(message->d.sign->cert, file);
  return true;
}

// PKCS12_parse() with this passphrase, which may be null.
bool TakePkcs12With(PKCS12* archive, const char* passphrase, KeyFile& file) {
  EVP_PKEY* key = nullptr;
  X509* certificate = nullptr;
  STACK_OF(X509)* others = nullptr;
  if (PKCS12_parse(archive, passphrase, &key, &certificate, &others) != 1) return false;
  if (key != nullptr) file.keys.emplace_back(key);
  if (certificate != nullptr) file.certificates.push_back({X509Ptr(certificate), 0});
  const X509StackPtr owned(others);
  TakeStack(others, file);
  return true;
}

absl::Status TakePkcs12(PKCS12* archive, const Passphrase& passphrase, KeyFile& file) {
  // PKCS12_parse() wants a MAC where there is a passphrase; files without one (-nomac) get one
  // here.
  const bool no_mac = PKCS12_mac_present(archive) != 1;
  if (no_mac && passphrase.given())
    (void)PKCS12_set_mac(archive, passphrase.text(), -1, nullptr, 0, 1, EVP_sha256());
  if (TakePkcs12With(archive, passphrase.given() ? passphrase.text() : "", file))
    return absl::OkStatus();
  // Without a passphrase some programs encrypt with an empty one, others with none at all.
  if (!passphrase.given() && TakePkcs12With(archive, nullptr, file)) return absl::OkStatus();
  // The first error: a cause of its own stands before it, such as an unknown digest.
  const bool mac = ERR_GET_REASON(ERR_peek_error()) == PKCS12_R_MAC_VERIFY_FAILURE;
  if (mac || no_mac || !passphrase.given())
    return WithoutPassphrase(passphrase, "the PKCS#12 file");
  return OpensslStatus(absl::StrCat("the PKCS#12 file cannot be read", HasLegacy() ? "" : kLegacy),
                       absl::StatusCode::kInvalidArgument);
}

bool TakeCertificates(std::span<const uint8_t> bytes, KeyFile& file) {
  const unsigned char* at = bytes.data();
  const unsigned char* const end = at + bytes.size();
  while (at < end) {
    X509Ptr certificate(d2i_X509(nullptr, &at, end - at));
    if (!certificate) break;
    file.certificates.push_back({std::move(certificate), 0});
  }
  ERR_clear_error();
  return !file.certificates.empty();
}

absl::Status TakeDer(std::span<const uint8_t> bytes, Want want, Passphrase& passphrase,
                     KeyFile& file) {
  if (TakeCertificates(bytes, file)) return absl::OkStatus();
  const auto size = static_cast<long>(bytes.size());
  const unsigned char* at = bytes.data();
  if (const Pkcs12Ptr archive(d2i_PKCS12(nullptr, &at, size)); archive != nullptr) {
    ERR_clear_error();
    return TakePkcs12(archive.get(), passphrase, file);
  }
  at = bytes.data();
  if (const Pkcs7Ptr message(d2i_PKCS7(nullptr, &at, size)); TakePkcs7(message.get(), file))
    return absl::OkStatus();
  ERR_clear_error();
  if (want == Want::kCertificates) return absl::OkStatus();
  ASSIGN_OR_RETURN(EvpPkeyPtr key, StoredKey(bytes, passphrase));
  file.keys.push_back(std::move(key));
  return absl::OkStatus();
}

// ---- PEM ----

BioPtr Reading(std::string_view text) {
  return BioPtr(BIO_new_mem_buf(text.data(), static_cast<int>(text.size())));
}

absl::Status NoEnd(const PemObject& object, absl::string_view what) {
  return absl::InvalidArgumentError(
      absl::StrCat(what, " the ", absl::string_view(object.label.data(), object.label.size()),
                   " that begins in line ", object.line,
                   " of the PEM file does not end (-----END); is the file "
                   "being written?"));
}

absl::Status TakeCertificate(const PemObject& object, KeyFile& file) {
  const size_t number = file.certificates.size() + 1;
  const std::string what =
      absl::StrCat("certificate ", number, " of the chain cannot be read (line ", object.line, ")");
  if (!object.complete) return NoEnd(object, what + ":");
  // As it is, or with what OpenSSL trusts it for (BEGIN TRUSTED CERTIFICATE), which is left out.
  X509Ptr certificate(PEM_read_bio_X509_AUX(Reading(object.text).get(), nullptr, nullptr, nullptr));
  if (!certificate) return OpensslStatus(what, absl::StatusCode::kInvalidArgument);
  file.certificates.push_back({std::move(certificate), object.line});
  return absl::OkStatus();
}

// The number of bytes in the file; more than the buffer takes is an error.
absl::StatusOr<size_t> ReadAll(int fd, std::span<uint8_t> buffer) {
  size_t size = 0;
  while (size < buffer.size()) {
    // Not read(2): other keyholders share this open file and its offset.
    const ssize_t n =
        pread(fd, buffer.data() + size, buffer.size() - size, static_cast<off_t>(size));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return ErrnoStatus("cannot read the file");
    if (n == 0) return size;
    size += static_cast<size_t>(n);
  }
  return absl::InvalidArgumentError(
      absl::StrCat("the file is larger than ", kMaxKeyFile, " bytes"));
}

}  // namespace

void LoadOlderCiphers() {
  static const bool loaded = OSSL_PROVIDER_load(nullptr, "default") != nullptr &&
                             OSSL_PROVIDER_load(nullptr, "legacy") != nullptr;
  if (!loaded) ERR_clear_error();
}

bool MayNeedOlderCiphers(int fd) {
  uint8_t first = 0;
  return pread(fd, &first, 1, 0) == 1 && first == kSequence;
}

std::string KeyFile::Summary() const {
  std::vector<std::string> labels = others;
  if (!certificates.empty()) labels.insert(labels.begin(), "CERTIFICATE");
  labels.erase(std::unique(labels.begin(), labels.end()), labels.end());
  return labels.empty() ? "" : absl::StrCat("the file has ", absl::StrJoin(labels, " and "));
}

absl::Status NoKeyIn(const KeyFile& file) {
  const std::string has = file.Summary();
  return absl::InvalidArgumentError(
      absl::StrCat("no private key found: expected one in PEM (BEGIN PRIVATE KEY), DER or PKCS#12",
                   has.empty() ? "" : "; ", has));
}

absl::StatusOr<X509Ptr> LeafOfChain(std::string_view chain_pem) {
  if (chain_pem.find("PRIVATE KEY-----") != std::string_view::npos) {
    return absl::InvalidArgumentError(
        "there is a private key among the certificates: keep it in a file of its own");
  }
  const BioPtr bio(BIO_new_mem_buf(chain_pem.data(), static_cast<int>(chain_pem.size())));
  X509Ptr leaf;
  int count = 0;
  ERR_clear_error();
  while (X509Ptr certificate{PEM_read_bio_X509(bio.get(), nullptr, nullptr, nullptr)}) {
    if (count++ == 0) leaf = std::move(certificate);
  }
  const bool at_end = ERR_GET_REASON(ERR_peek_last_error()) == PEM_R_NO_START_LINE;
  if (!at_end) {
    return OpensslStatus(absl::StrCat("certificate ", count + 1, " of the chain cannot be read"),
                         absl::StatusCode::kInvalidArgument);
  }
  ERR_clear_error();
  if (leaf == nullptr) {
    return absl::InvalidArgumentError(
        "no certificate found: expected PEM (BEGIN CERTIFICATE), the server's own first");
  }
  return leaf;
}

// OpenSSL looks for a decoder among all there are again for each key, which takes a millisecond. A
// decoder that is kept has to look only once.
EvpPkeyPtr KeyFileReader::DecodeUsual(std::string_view text) {
  constexpr std::string_view kUsual[] = {"-----BEGIN PRIVATE KEY-----\n",
                                         "-----BEGIN EC PRIVATE KEY-----\n",
                                         "-----BEGIN RSA PRIVATE KEY-----\n"};
  if (std::ranges::none_of(kUsual, [&](auto begin) { return text.starts_with(begin); })) return {};
  if (decoder_ == nullptr) {
    decoder_.reset(OSSL_DECODER_CTX_new_for_pkey(&decoded_, "PEM", nullptr, nullptr,
                                                 EVP_PKEY_KEYPAIR, nullptr, nullptr));
  }
  const BioPtr bio = Reading(text);
  const bool done = decoder_ != nullptr && OSSL_DECODER_from_bio(decoder_.get(), bio.get()) == 1;
  ERR_clear_error();
  EvpPkeyPtr key(std::exchange(decoded_, nullptr));
  return done ? std::move(key) : nullptr;
}

absl::StatusOr<EvpPkeyPtr> KeyFileReader::DecodeKey(const PemObject& object,
                                                    Passphrase& passphrase) {
  if (object.label == "OPENSSH PRIVATE KEY") {
    return absl::InvalidArgumentError(
        "no private key found: expected PEM, and this is a key of OpenSSH: convert a copy of it "
        "(ssh-keygen -p -m PKCS8 -f COPY)");
  }
  if (!object.complete) return NoEnd(object, "no private key found:");
  if (auto key = DecodeUsual(object.text); key != nullptr) return key;
  passphrase.Forget();
  EvpPkeyPtr key(
      PEM_read_bio_PrivateKey(Reading(object.text).get(), nullptr, Passphrase::Give, &passphrase));
  if (key != nullptr) {
    ERR_clear_error();
    return key;
  }
  if (passphrase.asked()) return WithoutPassphrase(passphrase, "the private key");
  return OpensslStatus(absl::StrCat("the private key that begins in line ", object.line,
                                    " cannot be read, though it is PEM"),
                       absl::StatusCode::kInvalidArgument);
}

// A key that cannot be read is no error if there is another one.
absl::Status KeyFileReader::TakePem(const std::vector<PemObject>& objects, Want want,
                                    Passphrase& passphrase, KeyFile& file) {
  absl::Status no_key;
  for (const PemObject& object : objects) {
    if (IsCertificate(object)) {
      if (want == Want::kKeys) {
        file.others.emplace_back(object.label);
      } else {
        RETURN_IF_ERROR(TakeCertificate(object, file));
      }
    } else if (IsPrivateKey(object)) {
      if (want == Want::kCertificates) continue;
      auto key = DecodeKey(object, passphrase);
      if (no_key.ok()) no_key = key.status();
      if (key.ok()) file.keys.push_back(*std::move(key));
    } else if (object.label == "PKCS7" && want != Want::kKeys) {
      const Pkcs7Ptr message(
          PEM_read_bio_PKCS7(Reading(object.text).get(), nullptr, nullptr, nullptr));
      if (!TakePkcs7(message.get(), file)) {
        return OpensslStatus(absl::StrCat("the PKCS7 in line ", object.line, " cannot be read"),
                             absl::StatusCode::kInvalidArgument);
      }
    } else {
      file.others.emplace_back(object.label);
    }
  }
  return file.keys.empty() ? no_key : absl::OkStatus();
}

absl::StatusOr<KeyFile> KeyFileReader::Parse(std::span<const uint8_t> bytes, Want want,
                                             Passphrase& passphrase) {
  KeyFile file;
  passphrase.Forget();
  ERR_clear_error();
  // A text in front of PEM objects may begin with this byte, which is '0', too.
  const bool der = !bytes.empty() && bytes.front() == kSequence;
  const std::string_view text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  const auto objects = FindPemObjects(text);
  if (!objects.empty()) {
    RETURN_IF_ERROR(TakePem(objects, want, passphrase, file));
  } else if (der) {
    RETURN_IF_ERROR(TakeDer(bytes, want, passphrase, file));
  } else if (want == Want::kKeys && !bytes.empty()) {
    ASSIGN_OR_RETURN(EvpPkeyPtr key, StoredKey(bytes, passphrase));
    file.keys.push_back(std::move(key));
  }
  ERR_clear_error();
  return file;
}

absl::StatusOr<KeyFile> KeyFileReader::Read(int fd, Want want, Passphrase& passphrase) {
  if (!buffer_) buffer_.emplace(kMaxKeyFile + 1);
  if (buffer_->bytes().empty()) return ErrnoStatus("no memory for the private key");
  ASSIGN_OR_RETURN(const size_t size, ReadAll(fd, buffer_->bytes()));
  return Parse(buffer_->bytes().first(size), want, passphrase);
}

absl::StatusOr<EvpPkeyPtr> ReadKeyUri(const std::string& uri, Passphrase& passphrase) {
  passphrase.Forget();
  const UiMethodPtr ui(UI_UTIL_wrap_read_pem_callback(Passphrase::Give, 0));
  const OsslStoreCtxPtr store(OSSL_STORE_open_ex(uri.c_str(), nullptr, nullptr, ui.get(),
                                                 &passphrase, nullptr, nullptr, nullptr));
  if (store == nullptr) {
    return OpensslStatus("the private key cannot be opened by its URI",
                         absl::StatusCode::kInvalidArgument);
  }
  return FirstKey(store.get(), passphrase);
}

}  // namespace tlsbroker
