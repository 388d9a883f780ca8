// SPDX-License-Identifier: Apache-2.0
// What is in each message of signing.h, in the order of the wire.

#ifndef TLSBROKER_PROTOCOL_SIGNING_FIELDS_H_
#define TLSBROKER_PROTOCOL_SIGNING_FIELDS_H_

#include "protocol/fields.h"
#include "protocol/signing.h"

namespace tlsbroker::signing {

using fields::Of;

void ListFields(auto& v, Of<Sign> auto& m) {
  v(1, m.request_id);
  v(2, m.certificate_id);
  v(3, m.scheme);
  v.Blob(4, m.content, {1, kMaxContent});
}
void ListFields(auto& v, Of<Signature> auto& m) {
  v(1, m.request_id);
  v.Blob(5, m.bytes, {1, kMaxSignature});
}
void ListFields(auto& v, Of<Refused> auto& m) {
  v(1, m.request_id);
  v(6, m.reason);
}

}  // namespace tlsbroker::signing

#endif  // TLSBROKER_PROTOCOL_SIGNING_FIELDS_H_
