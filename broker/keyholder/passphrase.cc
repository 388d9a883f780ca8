// SPDX-License-Identifier: Apache-2.0
#include "broker/keyholder/passphrase.h"

#include <unistd.h>

#include <algorithm>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "broker/support/status.h"

namespace tlsbroker {

absl::Status Passphrase::Read(int fd) {
  buffer_.emplace(4 * kMax);
  const auto bytes = buffer_->bytes();
  if (bytes.empty()) return ErrnoStatus("no memory for the passphrase");
  size_t size = 0;
  while (size < bytes.size()) {
    const ssize_t n = pread(fd, bytes.data() + size, bytes.size() - size, static_cast<off_t>(size));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return ErrnoStatus("cannot read the passphrase");
    if (n == 0) break;
    size += static_cast<size_t>(n);
  }
  return Cut(size);
}

absl::Status Passphrase::Set(std::string_view text) {
  buffer_.emplace(4 * kMax);
  const size_t size = std::min(text.size(), buffer_->bytes().size());
  std::memcpy(buffer_->bytes().data(), text.data(), size);
  return Cut(size);
}

absl::Status Passphrase::Cut(size_t size) {
  const auto bytes = buffer_->bytes();
  const auto all = bytes.first(size);
  size_ = static_cast<size_t>(std::ranges::find(all, '\n') - all.begin());
  if (size_ > 0 && bytes[size_ - 1] == '\r') --size_;
  if (size_ > kMax) {
    return absl::InvalidArgumentError(
        absl::StrCat("the passphrase is longer than ", kMax, " bytes"));
  }
  if (std::ranges::count(bytes.first(size_), 0) > 0)
    return absl::InvalidArgumentError("the passphrase has a NUL byte");
  bytes[size_] = 0;
  return absl::OkStatus();
}

const char* Passphrase::text() const {
  return buffer_ ? reinterpret_cast<const char*>(buffer_->bytes().data()) : "";
}

int Passphrase::Give(char* out, int size, int /*writing*/, void* self) {
  auto* passphrase = static_cast<Passphrase*>(self);
  passphrase->asked_ = true;
  if (!passphrase->given() || size < 0 || passphrase->size_ > static_cast<size_t>(size)) return -1;
  std::memcpy(out, passphrase->text(), passphrase->size_);
  return static_cast<int>(passphrase->size_);
}

}  // namespace tlsbroker
