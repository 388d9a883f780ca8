// SPDX-License-Identifier: Apache-2.0
// Recognizes what is signed elsewhere with the keys that TLS uses, too: certificates, requests for
// them, revocation lists, OCSP responses, attributes of CMS. All of them are one structure of ASN.1
// (X.690) from end to end. Runs in the keyholder, on bytes of a stranger.

#ifndef TLSBROKER_PROTOCOL_DER_H_
#define TLSBROKER_PROTOCOL_DER_H_

#include "protocol/wire.h"

namespace tlsbroker::der {

// True for a SEQUENCE or SET that ends where `bytes` end and begins with elements as a signed
// structure does. Not only for DER: whatever some decoder may take for it counts as well, such as
// lengths with more bytes than they need, or indefinite ones. How the inside goes on does not
// matter, because some decoders pass over what they do not expect.
bool IsSignedStructure(wire::Bytes bytes);

}  // namespace tlsbroker::der

#endif  // TLSBROKER_PROTOCOL_DER_H_
