// SPDX-License-Identifier: Apache-2.0
#include "broker/keyholder/pem_text.h"

#include <algorithm>
#include <string>

namespace tlsbroker {
namespace {

constexpr std::string_view kBegin = "-----BEGIN ";
constexpr std::string_view kEnd = "-----END ";
constexpr std::string_view kDashes = "-----";
constexpr size_t kMaxLabel = 64;

// The label behind kBegin at `begin`; empty if it is none.
std::string_view LabelAt(std::string_view text, size_t begin) {
  const std::string_view rest = text.substr(begin + kBegin.size());
  const std::string_view label = rest.substr(0, rest.find(kDashes));
  if (label.size() > kMaxLabel || label.size() == rest.size()) return {};
  return label.find_first_of("\r\n") == std::string_view::npos ? label : std::string_view();
}

}  // namespace

std::vector<PemObject> FindPemObjects(std::string_view text) {
  std::vector<PemObject> objects;
  size_t line = 1;
  size_t counted = 0;
  for (size_t at = 0; (at = text.find(kBegin, at)) != std::string_view::npos;) {
    const std::string_view label = LabelAt(text, at);
    if (label.empty()) {
      at += kBegin.size();
      continue;
    }
    line += static_cast<size_t>(std::ranges::count(text.substr(counted, at - counted), '\n'));
    counted = at;
    const std::string end = std::string(kEnd) + std::string(label) + std::string(kDashes);
    const size_t content = at + kBegin.size() + label.size() + kDashes.size();
    const size_t found = text.find(end, content);
    // An object that does not end is over where the next one begins.
    const size_t next = text.find(kBegin, content);
    const bool complete = found != std::string_view::npos && found < next;
    const size_t stop = complete ? found + end.size() : std::min(next, text.size());
    objects.push_back({label, text.substr(at, stop - at), line, complete});
    at = stop;
  }
  return objects;
}

bool IsPrivateKey(const PemObject& object) { return object.label.ends_with("PRIVATE KEY"); }

bool IsCertificate(const PemObject& object) {
  return object.label == "CERTIFICATE" || object.label == "X509 CERTIFICATE" ||
         object.label == "TRUSTED CERTIFICATE";
}

}  // namespace tlsbroker
