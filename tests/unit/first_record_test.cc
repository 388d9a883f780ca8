// SPDX-License-Identifier: Apache-2.0
#include "broker/handshaker/first_record.h"

#include <gtest/gtest.h>
#include <openssl/ssl.h>

#include <string>

namespace tlsbroker {
namespace {

struct Case {
  std::string bytes;
  std::string what;  // empty: for OpenSSL to judge
  int alert = 0;
};

std::string Bytes(std::initializer_list<int> bytes) {
  std::string text;
  for (const int byte : bytes) text += static_cast<char>(byte);
  return text;
}

TEST(FirstRecord, EachIsNamedAndHasItsAlert) {
  const Case cases[] = {
      {"GET /", "plain HTTP", SSL_AD_UNEXPECTED_MESSAGE},
      {"OPTIONS", "plain HTTP", SSL_AD_UNEXPECTED_MESSAGE},
      {"CONNECT", "a request to an HTTP proxy", SSL_AD_UNEXPECTED_MESSAGE},
      {"PRI * HTTP/2.0", "plain HTTP/2", SSL_AD_UNEXPECTED_MESSAGE},
      {"SSH-2.0-OpenSSH", "SSH", SSL_AD_UNEXPECTED_MESSAGE},
      {"PROXY TCP4", "a PROXY protocol header", SSL_AD_UNEXPECTED_MESSAGE},
      {Bytes({0x0d, 0x0a, 0x0d, 0x0a, 0}), "a PROXY protocol header", SSL_AD_UNEXPECTED_MESSAGE},
      {"EHLO localhost", "plain SMTP", SSL_AD_UNEXPECTED_MESSAGE},
      {Bytes({3, 0, 0, 0x13, 0x0e}), "remote desktop", SSL_AD_UNEXPECTED_MESSAGE},
      {Bytes({0x80, 0x2e, 1, 0, 2}), "an SSLv2 hello", SSL_AD_PROTOCOL_VERSION},
      {Bytes({0x80, 0x2e, 1, 3, 1}), "an SSLv2 hello", SSL_AD_PROTOCOL_VERSION},
      {Bytes({0x80, 0x2e, 2, 3, 1}), "no TLS record", SSL_AD_UNEXPECTED_MESSAGE},
      {Bytes({0, 0, 0, 0, 0}), "no TLS record", SSL_AD_UNEXPECTED_MESSAGE},
      {Bytes({19, 3, 1, 0, 5}), "no TLS record", SSL_AD_UNEXPECTED_MESSAGE},
      {Bytes({24, 3, 1, 0, 5}), "no TLS record", SSL_AD_UNEXPECTED_MESSAGE},
      {Bytes({22, 2, 1, 0, 5}), "an unknown version of TLS", SSL_AD_PROTOCOL_VERSION},
      {Bytes({22, 4, 1, 0, 5}), "an unknown version of TLS", SSL_AD_PROTOCOL_VERSION},
      {Bytes({22, 3, 1, 0x48, 1}), "a record that is too long", SSL_AD_RECORD_OVERFLOW},
      {Bytes({22, 3, 1, 0x48, 0}), ""},
      {Bytes({22, 3, 1, 0, 0}), ""},
      {Bytes({22, 3, 1, 2, 0}), ""},
      {Bytes({20, 3, 3, 0, 1}), ""},
      {Bytes({23, 3, 3, 0, 1}), ""},
  };
  for (const auto& [bytes, what, alert] : cases) {
    const std::span all(reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size());
    const NoTls judged = JudgeFirst(all.first<kRecordHeader>());
    EXPECT_EQ(judged.what != nullptr ? judged.what : "", what) << bytes;
    EXPECT_EQ(judged.alert, alert) << bytes;
  }
}

TEST(FirstRecord, AnAlertIsAWholeRecord) {
  const auto alert = PlainAlert(SSL_AD_RECORD_OVERFLOW);
  EXPECT_EQ(BodySize(std::span(alert).first<kRecordHeader>()), 2U);
  EXPECT_EQ(alert.front(), kAlert);
  EXPECT_EQ(alert.back(), 22);
}

}  // namespace
}  // namespace tlsbroker
