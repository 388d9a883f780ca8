// SPDX-License-Identifier: Apache-2.0
// What is in each message of request.h, in the order of the wire; PROTOCOL.md section 6 says it in
// words.

#ifndef TLSBROKER_PROTOCOL_REQUEST_FIELDS_H_
#define TLSBROKER_PROTOCOL_REQUEST_FIELDS_H_

#include "protocol/fields.h"
#include "protocol/request.h"

namespace tlsbroker::request {

using fields::Of;

void ListFields(auto& v, Of<Rekey> auto& m) {
  v(2, m.direction);
  v.Blob(1, m.token, {0, kMaxToken});
}

void ListFields(auto& v, Of<Answer> auto& m) {
  v(3, m.status);
  const bool done = m.status == Status::kDone;
  v.Blob(1, m.token, done ? fields::Size{1, kMaxToken} : fields::Size{0, 0});
}

// Texts become C strings.
void ListFields(auto& v, Of<Wrap> auto& m) {
  v(4, m.role);
  if (m.role != Role::kClient) return;
  v.CText(5, m.name, {1, kMaxName});
  v.CTexts(6, m.alpn, {1, kMaxName}, kMaxAlpn);
  v.MaybeCText(9, m.certificate, kMaxName);
}

void ListFields(auto& v, Of<Dial> auto& m) { v.CText(5, m.upstream, {1, kMaxName}); }

void ListFields(auto& v, Of<Opened> auto& m) {
  v(3, m.result);
  if (m.result == Result::kDone) {
    v.Blob(8, m.description, {1, kMaxOpened});
  } else {
    v.CText(7, m.text, {0, kMaxText});
  }
}

}  // namespace tlsbroker::request

#endif  // TLSBROKER_PROTOCOL_REQUEST_FIELDS_H_
