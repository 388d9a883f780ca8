// SPDX-License-Identifier: Apache-2.0
// `tlsbroker probe`: reading the probe's lines, and the report that is made of them.

#include "client-lib/tools/probe_report.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

namespace tlsbroker::tools {
namespace {

using testing::HasSubstr;
using testing::Not;

constexpr char kHead[] = "kernel\t6.1.0-56\nopenssl\tOpenSSL 3.0.19\nulp\tyes\t\t\n";

std::string Lines(const std::string& suite, const std::string& tx, const std::string& rx,
                  const std::string& offer = "yes") {
  const std::string combination = "TLSv1.3\t" + suite + "\t";
  return "direction\t" + combination + "tx\t" + tx + "\ndirection\t" + combination + "rx\t" + rx +
         "\noffer\t" + combination + offer + "\n";
}

const std::string kYes = "yes\t\t";
const std::string kNo = "no\tkernel-no-x\tTLS_TX: \"why\" not";

ProbeReport Parsed(const std::string& lines) {
  const auto report = ParseProbeReport(lines);
  EXPECT_TRUE(report.has_value()) << lines;
  return report.value_or(ProbeReport{});
}

TEST(Parse, TakesAWholeReport) {
  const ProbeReport report = Parsed(kHead + Lines("AES-128-GCM", kYes, kNo) + "rekey\ttx\t" + kNo +
                                    "\nrekey\trx\t" + kYes + "\n");
  EXPECT_EQ(report.kernel, "6.1.0-56");
  EXPECT_EQ(report.openssl, "OpenSSL 3.0.19");
  EXPECT_TRUE(report.ulp.ok);
  ASSERT_EQ(report.combinations.size(), 1u);
  EXPECT_EQ(report.combinations[0].suite, "AES-128-GCM");
  EXPECT_TRUE(report.combinations[0].tx.ok);
  EXPECT_FALSE(report.combinations[0].direct());
  EXPECT_EQ(report.combinations[0].rx.reason, "kernel-no-x");
  EXPECT_EQ(report.combinations[0].rx.detail, "TLS_TX: \"why\" not");
  EXPECT_FALSE(report.rekey_tx.ok);
  EXPECT_TRUE(report.rekey_rx.ok);
}

TEST(Parse, RefusesAnythingElse) {
  const std::string whole = kHead + Lines("AES-128-GCM", kYes, kYes);
  ASSERT_TRUE(ParseProbeReport(whole).has_value());
  EXPECT_FALSE(ParseProbeReport("").has_value());
  EXPECT_FALSE(ParseProbeReport("\n").has_value());
  EXPECT_FALSE(ParseProbeReport(kHead).has_value()) << "no combination";
  EXPECT_FALSE(ParseProbeReport(whole.substr(0, whole.size() - 1)).has_value()) << "cut off";
  for (const char* extra : {"unknown\tx\n", "\n", "ulp\tperhaps\t\t\n", "ulp\tyes\n",
                            "direction\tTLSv1.3\tX\tup\tyes\t\t\n", "direction\tTLSv1.3\n",
                            "offer\tTLSv1.3\tX\tmaybe\n", "rekey\ttx\tyes\n", "kernel\ta\tb\n"}) {
    EXPECT_FALSE(ParseProbeReport(whole + extra).has_value()) << extra;
  }
}

TEST(Conclusion, SaysWhatConnectionsWillBe) {
  const std::string good = Lines("AES-128-GCM", kYes, kYes);
  EXPECT_EQ(Conclusion(Parsed(kHead + good)), "Direct mode is available for all 1 combinations.");
  EXPECT_THAT(
      Conclusion(Parsed(kHead + good + Lines("AES-256-GCM", kYes, kNo))),
      testing::AllOf(HasSubstr("1 of 2"), HasSubstr("relayed would be: TLSv1.3 AES-256-GCM.")));
  EXPECT_THAT(Conclusion(Parsed(kHead + Lines("AES-128-GCM", kYes, kNo))),
              HasSubstr("not available here (kernel-no-x); connections will be relayed"));
  EXPECT_THAT(Conclusion(Parsed(kHead + Lines("AES-128-GCM", kYes, kYes, "no"))),
              HasSubstr("OpenSSL offers none"));
}

TEST(Table, SaysEachReasonOnce) {
  const std::string table = FormatTable(
      Parsed(kHead + Lines("AES-128-GCM", kNo, kNo) + Lines("AES-256-GCM", kNo, kYes, "no")));
  EXPECT_THAT(table, HasSubstr("no (1)"));
  EXPECT_THAT(table, HasSubstr("(1) kernel-no-x: TLS_TX: \"why\" not\n"));
  EXPECT_EQ(table.find("kernel-no-x: "), table.rfind("kernel-no-x: "));
  EXPECT_THAT(table, HasSubstr("(2) this OpenSSL does not negotiate it\n"));
}

TEST(Table, AnInterfaceCannotWriteToTheTerminal) {
  ProbeReport report = Parsed(kHead + Lines("AES-128-GCM", kYes, kYes));
  report.interfaces = {{"e\x1b[2J\xff", {}}};
  EXPECT_THAT(FormatTable(report), HasSubstr("e?[2J?"));
  EXPECT_THAT(FormatTable(report), Not(HasSubstr("\x1b")));
}

TEST(Table, ShowsTheStateOfFeatures) {
  ProbeReport report = Parsed(kHead + Lines("AES-128-GCM", kYes, kYes));
  report.interfaces = {{"eth0", {FeatureState{true, false}, FeatureState{false, true}, {}}}};
  const std::string table = FormatTable(report);
  EXPECT_THAT(table, testing::ContainsRegex("eth0 +on +off \\(fixed\\) +not in this kernel"));
}

TEST(Json, EscapesWhatJsonForbids) {
  ProbeReport report = Parsed(kHead + Lines("AES-128-GCM", kYes, kNo));
  report.interfaces = {{"a\"\\\x01\xe4", {}}};
  const std::string json = FormatJson(report);
  EXPECT_THAT(json, HasSubstr(R"("name": "a\"\\\u0001\u00e4")"));
  EXPECT_THAT(json, HasSubstr(R"("detail": "TLS_TX: \"why\" not")"));
  EXPECT_THAT(json, HasSubstr(R"("tls-hw-record": null)"));
}

}  // namespace
}  // namespace tlsbroker::tools
