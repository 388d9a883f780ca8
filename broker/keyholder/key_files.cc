#include "broker/keyholder/key_files.h"

#include <openssl/pem.h>
#include <openssl/ui.h>
#include <unistd.h>

#include <algorithm>
#include <string_view>
#include <utility>

#include "absl/strings/str_cat.h"
#include "broker/support/status.h"

namespace tlsbroker {
namespace {

using UiMethodPtr = OpensslPtr<UI_METHOD, UI_destroy_method>;

// Remembers that a passphrase was asked for, and gives none.
int RefusePassphrase(char*, int, int, void* asked) {
  *static_cast<bool*>(asked) = true;
  return -1;
}

absl::Status NoKey(bool asked_passphrase) {
  if (asked_passphrase) {
    ERR_clear_error();
    return absl::InvalidArgumentError(
        "the private key is encrypted and nobody can be asked for its passphrase: decrypt it "
        "(openssl pkey -in OLD -out NEW) and protect the file by its permissions, or use a systemd "
        "credential");
  }
  return OpensslStatus("no private key found: expected one in PEM (BEGIN PRIVATE KEY) or DER",
                       absl::StatusCode::kInvalidArgument);
}

absl::StatusOr<EvpPkeyPtr> FirstKey(OSSL_STORE_CTX* store, const bool& asked_passphrase) {
  // Without this, certificates in front of the key would be decoded and returned as well.
  (void)OSSL_STORE_expect(store, OSSL_STORE_INFO_PKEY);
  while (!OSSL_STORE_eof(store)) {
    const OsslStoreInfoPtr info(OSSL_STORE_load(store));
    if (info == nullptr) {
      if (OSSL_STORE_error(store) || asked_passphrase) break;
      continue;
    }
    if (OSSL_STORE_INFO_get_type(info.get()) != OSSL_STORE_INFO_PKEY) continue;
    EvpPkeyPtr key(OSSL_STORE_INFO_get1_PKEY(info.get()));
    ERR_clear_error();  // of the formats that were tried before
    if (key != nullptr) return key;
  }
  return NoKey(asked_passphrase);
}

// The number of bytes in the file; more than the buffer takes is an error.
absl::StatusOr<size_t> ReadAll(int fd, std::span<uint8_t> buffer) {
  size_t size = 0;
  while (size < buffer.size()) {
    const ssize_t n = read(fd, buffer.data() + size, buffer.size() - size);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return ErrnoStatus("cannot read the private key");
    if (n == 0) return size;
    size += static_cast<size_t>(n);
  }
  return absl::InvalidArgumentError(
      absl::StrCat("the file of the private key is larger than ", kMaxKeyFile, " bytes"));
}

}  // namespace

absl::StatusOr<X509Ptr> LeafOfChain(std::string_view chain_pem) {
  // The handshakers get the chain as it is.
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

// OSSL_STORE reads whatever there is, and looks for a decoder among all there are, for each key
// again: a millisecond. A decoder that stays has found it.
EvpPkeyPtr KeyFileReader::DecodePem(std::string_view text) {
  constexpr std::string_view kUsual[] = {"-----BEGIN PRIVATE KEY-----\n",
                                         "-----BEGIN EC PRIVATE KEY-----\n",
                                         "-----BEGIN RSA PRIVATE KEY-----\n"};
  if (std::ranges::none_of(kUsual, [&](auto begin) { return text.starts_with(begin); })) return {};
  if (decoder_ == nullptr) {
    decoder_.reset(OSSL_DECODER_CTX_new_for_pkey(&decoded_, "PEM", nullptr, nullptr,
                                                 EVP_PKEY_KEYPAIR, nullptr, nullptr));
  }
  const BioPtr bio(BIO_new_mem_buf(text.data(), static_cast<int>(text.size())));
  const bool done = decoder_ != nullptr && OSSL_DECODER_from_bio(decoder_.get(), bio.get()) == 1;
  ERR_clear_error();
  EvpPkeyPtr key(std::exchange(decoded_, nullptr));
  return done ? std::move(key) : nullptr;
}

absl::StatusOr<EvpPkeyPtr> KeyFileReader::Read(int fd) {
  if (!buffer_) buffer_.emplace(kMaxKeyFile + 1);
  if (buffer_->bytes().empty()) return ErrnoStatus("no memory for the private key");
  // Another generation may have read the same open file before.
  (void)lseek(fd, 0, SEEK_SET);
  ASSIGN_OR_RETURN(const size_t size, ReadAll(fd, buffer_->bytes()));
  const auto* bytes = buffer_->bytes().data();
  if (auto key = DecodePem({reinterpret_cast<const char*>(bytes), size}); key != nullptr) {
    return key;
  }
  const BioPtr bio(BIO_new_mem_buf(bytes, static_cast<int>(size)));
  bool asked = false;
  const UiMethodPtr ui(UI_UTIL_wrap_read_pem_callback(RefusePassphrase, 0));
  const OsslStoreCtxPtr store(OSSL_STORE_attach(bio.get(), "file", nullptr, nullptr, ui.get(),
                                                &asked, nullptr, nullptr, nullptr));
  if (store == nullptr) return OpensslStatus("cannot read the private key");
  return FirstKey(store.get(), asked);
}

absl::StatusOr<EvpPkeyPtr> ReadKeyUri(const std::string& uri) {
  bool asked = false;
  const UiMethodPtr ui(UI_UTIL_wrap_read_pem_callback(RefusePassphrase, 0));
  const OsslStoreCtxPtr store(OSSL_STORE_open_ex(uri.c_str(), nullptr, nullptr, ui.get(), &asked,
                                                 nullptr, nullptr, nullptr));
  if (store == nullptr) {
    return OpensslStatus("the private key cannot be opened by its URI",
                         absl::StatusCode::kInvalidArgument);
  }
  return FirstKey(store.get(), asked);
}

}  // namespace tlsbroker
