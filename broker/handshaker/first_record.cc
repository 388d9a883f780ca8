// SPDX-License-Identifier: Apache-2.0
#include "broker/handshaker/first_record.h"

#include <openssl/ssl.h>

#include <algorithm>
#include <string_view>

namespace tlsbroker {
namespace {

struct Protocol {
  std::string_view begins;
  const char* what;
};

// The first bytes that a client of another protocol sends by itself.
constexpr Protocol kProtocols[] = {
    {"GET ", "plain HTTP"},
    {"HEAD ", "plain HTTP"},
    {"POST ", "plain HTTP"},
    {"PUT ", "plain HTTP"},
    {"PATCH", "plain HTTP"},
    {"DELET", "plain HTTP"},
    {"OPTIO", "plain HTTP"},
    {"TRACE", "plain HTTP"},
    {"PRI *", "plain HTTP/2"},
    {"CONNE", "a request to an HTTP proxy"},
    {"SSH-", "SSH"},
    {"PROXY", "a PROXY protocol header"},                            // version 1
    {std::string_view("\r\n\r\n\0", 5), "a PROXY protocol header"},  // version 2
    {"EHLO ", "plain SMTP"},
    {"HELO ", "plain SMTP"},
    {std::string_view("\x03\0\0", 3), "remote desktop"},  // RFC 2126's TPKT
};

// RFC 5246 appendix E.2: the highest bit is set, the type is 1, the version that of SSL 2 to TLS.
bool IsSslV2Hello(RecordHeader header) {
  const bool version = (header[3] == 0 && header[4] == 2) || header[3] == 3;
  return (header[0] & 0x80) != 0 && header[2] == 1 && version;
}

}  // namespace

NoTls JudgeFirst(RecordHeader header) {
  const std::string_view text(reinterpret_cast<const char*>(header.data()), header.size());
  for (const auto& [begins, what] : kProtocols) {
    if (text.starts_with(begins)) return {what, SSL_AD_UNEXPECTED_MESSAGE};
  }
  if (IsSslV2Hello(header)) return {"an SSLv2 hello", SSL_AD_PROTOCOL_VERSION};
  if (header[0] < kChangeCipherSpec || header[0] > kApplicationData) {
    return {"no TLS record", SSL_AD_UNEXPECTED_MESSAGE};
  }
  if (header[1] != 3) return {"an unknown version of TLS", SSL_AD_PROTOCOL_VERSION};
  if (BodySize(header) > kMaxRecordBody)
    return {"a record that is too long", SSL_AD_RECORD_OVERFLOW};
  return {};
}

std::array<uint8_t, kRecordHeader + 2> PlainAlert(uint8_t alert) {
  return {SSL3_RT_ALERT, 3, 3, 0, 2, SSL3_AL_FATAL, alert};
}

}  // namespace tlsbroker
