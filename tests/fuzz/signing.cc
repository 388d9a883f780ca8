// SPDX-License-Identifier: Apache-2.0
// The messages between handshakers and the keyholder. Nothing is decoded that Encode could not have
// written, neither from memory nor from a pipe. No content has the shape of a handshake's content
// if it begins as a certificate, or names a group that is not offered.

#include "protocol/signing.h"

#include <algorithm>

#include "protocol/der.h"
#include "protocol/tls_groups.h"
#include "tests/fuzz/fuzz.h"

namespace tlsbroker {
namespace {

// A strict check without der.cc: version, number and a SEQUENCE, in a SEQUENCE that ends with the
// content.
bool BeginsAsCertificate(wire::Bytes content) {
  wire::Reader in(content);
  if (in.U8() != 0x30) return false;
  size_t size = in.U8();
  if (size == 0x81) size = in.U8();
  if (size != in.remaining() || in.U8() != 0xa0 || in.U8() != 3) return false;
  in.Raw(3);
  if (in.U8() != 2) return false;
  const size_t serial = in.U8();
  if (serial > 0x7f) return false;
  in.Raw(serial);
  return in.U8() == 0x30 && in.U8() <= in.remaining() && in.ok();
}

// True for content that a handshake may have signed.
bool Check(const signing::Sign& request) {
  const auto shape = signing::ShapeOf(request.content);
  if (!shape) return false;
  for (int type = 0; type < 5; ++type) {
    (void)signing::SchemeFits(request.scheme, static_cast<signing::KeyType>(type), *shape);
  }
  FUZZ_ASSERT(!der::IsSignedStructure(request.content) && !BeginsAsCertificate(request.content));
  const bool is_short = request.content.size() <= signing::kMaxShortContent;
  FUZZ_ASSERT(is_short == (*shape != signing::Shape::kTls12Client));
  if (*shape == signing::Shape::kTls12Client) FUZZ_ASSERT(request.content[0] == 1);
  const bool exchange =
      *shape == signing::Shape::kTls12Server || *shape == signing::Shape::kTls12AloneServer;
  if (!exchange) return true;
  const uint16_t group = wire::Reader(request.content.subspan(65)).U16();
  FUZZ_ASSERT(std::ranges::count(tls_groups::kOffered, group, &tls_groups::Group::id) == 1);
  return true;
}

bool DecodeRequest(wire::Bytes bytes) {
  const auto request = signing::DecodeSign(bytes);
  if (!request) return false;
  FUZZ_ASSERT(std::ranges::equal(signing::Encode(*request), bytes));
  Check(*request);
  return true;
}

// Reads messages as the keyholder does, from a pipe into which anything may be written.
bool ReadFromPipe(wire::Bytes bytes) {
  bool taken = false;
  pipes::Pipe pipe = pipes::Make();
  if (pipes::Write(pipe.writing.get(), bytes) != pipes::Result::kOk) return false;  // no room
  pipe.writing.Reset();
  pipes::Reader reader(signing::kMaxMessage);
  // A read takes as much as there is room for, so that a message may need several reads.
  pipes::Result result = pipes::Result::kOk;
  while (result == pipes::Result::kOk || result == pipes::Result::kWouldBlock) {
    result = reader.Next(pipe.reading.get());
    if (result != pipes::Result::kOk) continue;
    FUZZ_ASSERT(!reader.message().empty() && reader.message().size() <= signing::kMaxMessage);
    taken |= DecodeRequest(reader.message());
  }
  FUZZ_ASSERT(result == pipes::Result::kClosed || result == pipes::Result::kMalformed);
  return taken;
}

}  // namespace
}  // namespace tlsbroker

int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace tlsbroker;
  const wire::Bytes bytes(data, size);
  bool taken = DecodeRequest(bytes);
  if (const auto reply = signing::DecodeReply(bytes)) {
    FUZZ_ASSERT(std::ranges::equal(signing::Encode(*reply), bytes));
    taken = true;
  }
  taken |= Check({.scheme = signing::schemes::kEd25519, .content = bytes});
  taken |= ReadFromPipe(bytes);
  return taken ? 0 : kRefused;
}
