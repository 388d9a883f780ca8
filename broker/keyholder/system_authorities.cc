// SPDX-License-Identifier: Apache-2.0
#include "broker/keyholder/system_authorities.h"

#include <dirent.h>
#include <fcntl.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <unistd.h>

#include <cstdlib>
#include <memory>
#include <vector>

#include "broker/support/openssl_ptr.h"

namespace tlsbroker {
namespace {

constexpr size_t kMaxBundle = 4 * 1024 * 1024;

struct CloseDirectory {
  void operator()(DIR* directory) const { (void)closedir(directory); }
};

}  // namespace

SystemAuthorities SystemAuthorities::Open() {
  SystemAuthorities authorities;
  const std::unique_ptr<DIR, CloseDirectory> directory(opendir(X509_get_default_cert_dir()));
  // Files there have the hash of the authority's name, a point and a number as their names
  // (openssl-rehash(1)).
  while (const dirent* entry = directory ? readdir(directory.get()) : nullptr) {
    char* end = nullptr;
    const unsigned long hash = strtoul(entry->d_name, &end, 16);
    if (end == entry->d_name + 8 && *end == '.')
      authorities.hashes_.insert(static_cast<uint32_t>(hash));
  }
  authorities.bundle_ =
      UniqueFd(open(X509_get_default_cert_file(), O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK));
  return authorities;
}

bool SystemAuthorities::HaveIssuerOf(const X509* certificate) const {
  const X509_NAME* name = X509_get_issuer_name(certificate);
  int ok = 0;
  const unsigned long hash = X509_NAME_hash_ex(name, nullptr, nullptr, &ok);
  return (ok == 1 && hashes_.contains(static_cast<uint32_t>(hash))) || BundleHas(name);
}

bool SystemAuthorities::BundleHas(const X509_NAME* name) const {
  std::vector<char> text(bundle_ ? kMaxBundle : 0);
  size_t size = 0;
  while (size < text.size()) {
    const ssize_t n =
        pread(bundle_.get(), text.data() + size, text.size() - size, static_cast<off_t>(size));
    if (n <= 0) break;
    size += static_cast<size_t>(n);
  }
  const BioPtr bio(BIO_new_mem_buf(text.data(), static_cast<int>(size)));
  bool found = false;
  while (!found) {
    const X509Ptr one(PEM_read_bio_X509_AUX(bio.get(), nullptr, nullptr, nullptr));
    if (!one) break;
    found = X509_NAME_cmp(X509_get_subject_name(one.get()), name) == 0;
  }
  ERR_clear_error();
  return found;
}

}  // namespace tlsbroker
