// SPDX-License-Identifier: Apache-2.0
// Finds the objects in the text of a PEM file (RFC 7468), as people put it together: text between
// them, a byte order mark, line ends of Windows, no line end between two of them. Runs in the
// keyholder, on files of the administrator. Copies nothing: what it finds borrows from the text.

#ifndef TLSBROKER_BROKER_KEYHOLDER_PEM_TEXT_H_
#define TLSBROKER_BROKER_KEYHOLDER_PEM_TEXT_H_

#include <cstddef>
#include <string_view>
#include <vector>

namespace tlsbroker {

struct PemObject {
  std::string_view label;  // "EC PRIVATE KEY"
  std::string_view text;   // from -----BEGIN to END LABEL-----, or as far as there is any
  size_t line = 1;         // of -----BEGIN
  bool complete = false;
};

std::vector<PemObject> FindPemObjects(std::string_view text);

bool IsPrivateKey(const PemObject& object);
bool IsCertificate(const PemObject& object);

}  // namespace tlsbroker

#endif  // TLSBROKER_BROKER_KEYHOLDER_PEM_TEXT_H_
