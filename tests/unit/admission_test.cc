// SPDX-License-Identifier: Apache-2.0
// Who may come in: limits for all and for one source, and places that are given back.

#include "broker/handshaker/admission.h"

#include <arpa/inet.h>
#include <gtest/gtest.h>

#include <string>
#include <utility>
#include <vector>

namespace tlsbroker {
namespace {

using Verdict = Admission::Verdict;

handoff::Endpoint From(const std::string& address) {
  handoff::Endpoint endpoint;
  endpoint.ipv6 = address.find(':') != std::string::npos;
  EXPECT_EQ(inet_pton(endpoint.ipv6 ? AF_INET6 : AF_INET, address.c_str(), endpoint.address.data()),
            1);
  return endpoint;
}

TEST(Admission, LimitsAllTogether) {
  Admission admission(2, 2);
  std::vector<Admission::Place> places(3);
  EXPECT_EQ(admission.Admit(From("192.0.2.1"), places[0]), Verdict::kAdmitted);
  EXPECT_EQ(admission.Admit(From("192.0.2.2"), places[1]), Verdict::kAdmitted);
  EXPECT_EQ(admission.Admit(From("192.0.2.3"), places[2]), Verdict::kTotalLimit);
  EXPECT_EQ(admission.active(), 2U);
  places[0].Release();
  places[0].Release();
  EXPECT_EQ(admission.active(), 1U) << "once";
  EXPECT_EQ(admission.Admit(From("192.0.2.3"), places[2]), Verdict::kAdmitted);
}

TEST(Admission, LimitsEachSource) {
  Admission admission(100, 1);
  Admission::Place one, another, third;
  EXPECT_EQ(admission.Admit(From("192.0.2.1"), one), Verdict::kAdmitted);
  EXPECT_EQ(admission.Admit(From("192.0.2.1"), another), Verdict::kSourceLimit);
  EXPECT_EQ(admission.Admit(From("192.0.2.2"), another), Verdict::kAdmitted);
  one = Admission::Place();
  EXPECT_EQ(admission.Admit(From("192.0.2.1"), third), Verdict::kAdmitted);
}

// A customer of a provider has a /64, and can use another address of it for each connection.
TEST(Admission, OfIpv6CountsTheNetwork) {
  Admission admission(100, 1);
  Admission::Place one, another;
  EXPECT_EQ(admission.Admit(From("2001:db8:0:1::1"), one), Verdict::kAdmitted);
  EXPECT_EQ(admission.Admit(From("2001:db8:0:1:ffff::2"), another), Verdict::kSourceLimit);
  EXPECT_EQ(admission.Admit(From("2001:db8:0:2::1"), another), Verdict::kAdmitted);
}

TEST(Admission, OfTheTwoFamiliesNoneIsTheOther) {
  Admission admission(100, 1);
  Admission::Place one, another;
  EXPECT_EQ(admission.Admit(From("32.1.13.184"), one), Verdict::kAdmitted);
  EXPECT_EQ(admission.Admit(From("2001:db8::"), another), Verdict::kAdmitted);
}

TEST(Admission, APlaceMoves) {
  Admission admission(1, 1);
  Admission::Place moved;
  {
    Admission::Place place;
    EXPECT_EQ(admission.Admit(From("192.0.2.1"), place), Verdict::kAdmitted);
    moved = std::move(place);
  }
  EXPECT_EQ(admission.active(), 1U);
  { const Admission::Place last = std::move(moved); }
  EXPECT_EQ(admission.active(), 0U);
}

TEST(Admission, WhoWasAdmittedStays) {
  Admission admission(2, 2);
  Admission::Place one, another;
  EXPECT_EQ(admission.Admit(From("192.0.2.1"), one), Verdict::kAdmitted);
  admission.SetLimits(1, 1);
  EXPECT_EQ(admission.active(), 1U);
  EXPECT_EQ(admission.Admit(From("192.0.2.2"), another), Verdict::kTotalLimit);
  admission.SetLimits(2, 1);
  EXPECT_EQ(admission.Admit(From("192.0.2.1"), another), Verdict::kSourceLimit);
}

}  // namespace
}  // namespace tlsbroker
