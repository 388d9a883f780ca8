// SPDX-License-Identifier: Apache-2.0
// The passphrase of a private key, from the file that the configuration names. Runs in the
// keyholder.

#ifndef TLSBROKER_BROKER_KEYHOLDER_PASSPHRASE_H_
#define TLSBROKER_BROKER_KEYHOLDER_PASSPHRASE_H_

#include <cstddef>
#include <optional>
#include <string_view>

#include "absl/status/status.h"
#include "broker/keyholder/memory.h"

namespace tlsbroker {

class Passphrase {
 public:
  static constexpr size_t kMax = 1023;  // OpenSSL has room for 1024 with the NUL

  Passphrase() = default;
  Passphrase(const Passphrase&) = delete;
  Passphrase& operator=(const Passphrase&) = delete;

  // The first line of the file, without its end.
  absl::Status Read(int fd);
  // For tests.
  absl::Status Set(std::string_view text);

  bool given() const { return buffer_.has_value(); }
  const char* text() const;  // with a NUL behind it; "" if none was given

  // Whether OpenSSL has asked for it since the last call of Forget().
  bool asked() const { return asked_; }
  void Forget() { asked_ = false; }

  // A pem_password_cb; `self` is a Passphrase.
  static int Give(char* out, int size, int writing, void* self);

 private:
  absl::Status Cut(size_t size);  // to its first line, of that many bytes in the buffer

  std::optional<KeyFileBuffer> buffer_;  // what it holds is wiped at the end
  size_t size_ = 0;
  bool asked_ = false;
};

}  // namespace tlsbroker

#endif  // TLSBROKER_BROKER_KEYHOLDER_PASSPHRASE_H_
