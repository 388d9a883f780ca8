// SPDX-License-Identifier: Apache-2.0
// The configuration reader: what it accepts, and for everything that it refuses the exact place in
// the file and the message.

#include "broker/supervisor/config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "broker/support/closest.h"

namespace tlsbroker::supervisor {
namespace {

using std::chrono::milliseconds;
using ::testing::ElementsAre;
using ::testing::IsEmpty;

std::vector<std::string> ErrorsOf(std::string_view text) {
  Diagnostics diagnostics("f");
  ParseConfig(text, diagnostics);
  return diagnostics.errors();
}

Config Good(std::string_view text) {
  Diagnostics diagnostics("f");
  Config config = ParseConfig(text, diagnostics);
  EXPECT_THAT(diagnostics.errors(), IsEmpty());
  return config;
}

// Lines 1 to 7; what a test adds begins at line 8.
constexpr char kBase[] = R"([certificate.example]
chain = "/c.pem"
key = "/k.pem"
[service.web]
listen = ["127.0.0.1:443"]
certificates = ["example"]
worker.command = ["/bin/true"]
)";

TEST(ConfigTest, DefaultsAreTheDocumentedOnes) {
  const Config config = Good(kBase);
  EXPECT_EQ(config.broker.runtime_dir.value, "/run/tlsbroker");
  EXPECT_EQ(config.broker.user.value, "tlsbroker");
  EXPECT_EQ(config.broker.drain_timeout, milliseconds(30000));
  ASSERT_EQ(config.services.size(), 1u);
  const ServiceConfig& service = config.services[0];
  EXPECT_EQ(service.limits.handshake_timeout, milliseconds(5000));
  EXPECT_EQ(service.limits.max_handshakes, 4096u);
  EXPECT_EQ(service.limits.max_handshakes_per_source, 256u);
  EXPECT_EQ(service.limits.max_relayed, 8192u);
  EXPECT_EQ(service.limits.max_relayed_per_source, 2048u);
  EXPECT_EQ(service.limits.max_signatures, 10'000u);
  EXPECT_EQ(service.min_handshakers, 1u);
  EXPECT_EQ(service.max_handshakers, 0u);
  EXPECT_EQ(service.start, StartWhen::kAlways);
  EXPECT_EQ(service.idle_timeout, std::chrono::minutes(5));
  EXPECT_EQ(service.terms.policy, supervision::Policy::kIntermediate);
  EXPECT_EQ(service.terms.ktls, supervision::KtlsMode::kPrefer);
  EXPECT_EQ(service.backlog.value, 256u);
  ASSERT_TRUE(service.worker.has_value());
  EXPECT_EQ(service.worker->count, 1u);
  EXPECT_EQ(service.worker->start, StartWhen::kAlways);
  EXPECT_FALSE(service.worker->network);
}

TEST(ConfigTest, ArgumentsMayBeEmptyAndTimesMayBeDays) {
  const Config config = Good(R"([certificate.example]
chain = "/c.pem"
key = "/k.pem"
[broker]
drain_timeout = "30d"
[service.a]
listen = ["127.0.0.1:443"]
certificates = ["example"]
[service.a.worker]
exec = ["/bin/a", "", "--save", ""]
connections = { idle_timeout = "7d", lifetime = "365d" }
limits = { cpu = "2d" }
)");
  EXPECT_EQ(config.broker.drain_timeout, 30 * kDay);
  const WorkerConfig& worker = *config.services[0].worker;
  EXPECT_THAT(worker.command.value, ElementsAre("/bin/a", "", "--save", ""));
  EXPECT_EQ(worker.connections.idle_timeout, 7 * kDay);
  EXPECT_EQ(worker.connections.lifetime, 365 * kDay);
  EXPECT_EQ(worker.limits.cpu, 2u * 86'400);
}

TEST(ConfigTest, TmpIsPrivateUnlessThatOfTheMachineIsListed) {
  EXPECT_TRUE(Good(kBase).services[0].worker->private_tmp);
  EXPECT_FALSE(Good(kBase + std::string("worker.read_write = [\"/tmp\"]\n"))
                   .services[0]
                   .worker->private_tmp);
  EXPECT_FALSE(
      Good(kBase + std::string("worker.private_tmp = false\n")).services[0].worker->private_tmp);
  EXPECT_TRUE(Good(kBase + std::string("worker.read_only = [\"/tmp/x\"]\n"))
                  .services[0]
                  .worker->private_tmp);
}

TEST(ConfigTest, DirectoryInTheWorkersOwnTmp) {
  for (const char* lines :
       {"directory = \"/tmp\"", "directory = \"/var/tmp/\"", "directory = \"/tmpx\"",
        "directory = \"/tmp/a/b\"\nread_write = [\"/tmp/a\"]",
        "directory = \"/tmp/a\"\nread_only = [\"/tmp/a/b\"]",
        "directory = \"/tmp/a\"\nprivate_tmp = false"}) {
    Good(kBase +
         std::string("[service.web2]\nlisten = [\"[::1]:2\"]\ncertificates = "
                     "[\"example\"]\n[service.web2.worker]\n"
                     "command = [\"/c\"]\n") +
         lines);
  }
}

TEST(ConfigTest, VariablesOfConnectionsAreOthersForACommand) {
  const Config config =
      Good(kBase + std::string("worker.environment = { SSL_CERT_DIR = \"/c\", EMPTY = \"\" }\n"));
  EXPECT_THAT(config.services[0].worker->environment, ElementsAre("EMPTY=", "SSL_CERT_DIR=/c"));
}

TEST(ConfigTest, EveryKeyIsRead) {
  const Config config = Good(R"(
[broker]
runtime_dir = "/tmp/r"
user = "nobody"
handshake_timeout = "500ms"
drain_timeout = "2m"
max_handshakes = 10
max_handshakes_per_source = 2
max_relayed = 20
max_relayed_per_source = 5
max_signatures = 30
log_level = "debug"
ca_file = "cred:ca"
[certificate."a.example"]
chain = "cred:chain"
key = "pkcs11:object=x?pin-source=y"
[certificate.b]
chain = "/b.pem"
key = "cred:b"
[upstream.redis]
address = "[2001:db8::1]:6380"
name = "redis.example.org"
alpn = ["redis"]
ca_file = "/ca.pem"
pin = ["sha256//AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="]
certificate = "b"
[service.web]
listen = ["0.0.0.0:443", "[::1]:8443", "systemd:web"]
certificates = ["b", "a.example"]
policy = "modern"
alpn = ["h2", "http/1.1"]
ktls = "require"
backlog = 16
max_relayed = 21
handshakers = { min = 2, max = 3 }
start = "on-demand"
idle_timeout = "2m"
user = "games"
allow_users = ["root"]
allow_groups = ["daemon"]
wrap = ["server", "client"]
client_certificates = ["a.example"]
dial = ["redis"]
[service.web.worker]
exec = ["/usr/bin/bc", "-lq"]
user = "www-data"
count = 2
start = "on-demand"
idle_timeout = "5m"
style = "systemd"
read_only = ["/srv"]
read_write = ["/var/x"]
network = true
)");
  EXPECT_EQ(config.broker.log_level, log::Level::kDebug);
  EXPECT_EQ(config.broker.drain_timeout, std::chrono::minutes(2));
  EXPECT_EQ(config.certificates[0].chain.value, (Source{Source::Kind::kCredential, "chain"}));
  EXPECT_EQ(config.certificates[0].key.value.kind, Source::Kind::kUri);
  const ServiceConfig& web = config.services[0];
  EXPECT_THAT(web.certificates, ElementsAre(1, 0));
  EXPECT_EQ(web.user->value, "games");
  EXPECT_EQ(web.limits.handshake_timeout, milliseconds(500));
  EXPECT_EQ(web.limits.max_handshakes, 10u);
  EXPECT_EQ(web.limits.max_handshakes_per_source, 2u);
  EXPECT_EQ(web.limits.max_relayed, 21u);
  EXPECT_EQ(web.limits.max_relayed_per_source, 5u);
  EXPECT_EQ(web.limits.max_signatures, 30u);
  EXPECT_EQ(web.min_handshakers, 2u);
  EXPECT_EQ(web.max_handshakers, 3u);
  EXPECT_EQ(web.start, StartWhen::kOnDemand);
  EXPECT_EQ(web.idle_timeout, std::chrono::minutes(2));
  EXPECT_EQ(ToString(web.listen[1].value), "[::1]:8443");
  EXPECT_EQ(web.listen[1].position, (Position{28, 26}));
  EXPECT_EQ(ToString(web.listen[2].value), "systemd:web");
  EXPECT_THAT(web.terms.alpn, ElementsAre("h2", "http/1.1"));
  EXPECT_EQ(web.worker->kind, WorkerConfig::Kind::kExec);
  EXPECT_THAT(web.worker->command.value, ElementsAre("/usr/bin/bc", "-lq"));
  EXPECT_TRUE(web.worker->network);
  EXPECT_TRUE(web.terms.wrap_server && web.wrap_client);
  EXPECT_THAT(web.dial, ElementsAre(0));
  EXPECT_EQ(config.broker.ca_file->value, (Source{Source::Kind::kCredential, "ca"}));
  const UpstreamConfig& redis = config.upstreams.at(0);
  EXPECT_EQ(redis.address.value.ToString(), "[2001:db8::1]:6380");
  EXPECT_EQ(redis.server_name, "redis.example.org");
  EXPECT_THAT(redis.alpn, ElementsAre("redis"));
  EXPECT_EQ(redis.ca_file->value.text, "/ca.pem");
  ASSERT_EQ(redis.pins.size(), 1u);
  ASSERT_EQ(redis.pins[0].size(), 32u);
  EXPECT_EQ(redis.pins[0][31], 31);
  EXPECT_EQ(redis.certificate, 1u);
  EXPECT_THAT(web.client_certificates, ElementsAre(0));
  EXPECT_EQ(web.worker->idle_timeout, std::chrono::minutes(5));
  EXPECT_EQ(web.worker->style, "systemd");
}

std::string ManyPins() {
  std::string list;
  for (int i = 0; i < 17; ++i) list += "\"sha256//AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\",";
  return list;
}

struct BadCase {
  const char* name;
  std::string text;  // after kBase, so its first line is 8
  std::vector<std::string> errors;
};

class BadConfigTest : public ::testing::TestWithParam<BadCase> {};

TEST_P(BadConfigTest, IsReportedAtItsPlace) {
  EXPECT_EQ(ErrorsOf(kBase + GetParam().text), GetParam().errors);
}

std::string Service(std::string_view lines) {
  return "[service.b]\nlisten = [\"127.0.0.1:1\"]\ncertificates = [\"example\"]\n" +
         std::string(lines);
}

const BadCase kBadCases[] = {
    {"UnknownKeyWithGuess",
     "[broker]\nlog_levl = 2\n",
     {"f:9:1: unknown key 'log_levl' in [broker]; did you mean 'log_level'?"}},
    {"HandshakersOfTheBroker",
     "[broker]\nhandshakers = 2\n",
     {"f:9:15: 'handshakers' is no key of [broker] any more; each service has its own: leave it "
      "out, "
      "or write handshakers = { max = 2 } in [service.NAME]"}},
    {"HandshakersOfTheBrokerAsATable",
     "[broker]\nhandshakers = { min = 1, max = 2 }\n",
     {"f:9:15: 'handshakers' is no key of [broker] any more; each service has its own: leave it "
      "out, "
      "or write handshakers = { max = 1 } in [service.NAME]"}},
    {"FewerHandshakersThanNeeded",
     Service("handshakers = { min = 3, max = 2 }\n"),
     {"f:11:32: 'max' is less than 'min'; at least 3 is needed"}},
    {"IdleServiceThatIsNotOnDemand",
     Service("idle_timeout = \"5m\"\n"),
     {"f:11:16: 'idle_timeout' is for services that are started on demand; add start = "
      "\"on-demand\", or leave it out"}},
    {"UnknownKeyWithoutGuess",
     "[certificate.b]\nchain = \"/c\"\nkey = \"/k\"\ncolour = 1\n",
     {"f:11:1: unknown key 'colour' in [certificate.b]; known are: chain, key, "
      "pem, passphrase"}},
    {"UpstreamWithNothing",
     "[upstream.u]\n",
     {"f:8:1: 'address' is missing in [upstream.u]; add address = \"192.0.2.1:443\"",
      "f:8:1: 'name' is missing in [upstream.u]; add the name that the server's certificate has to "
      "have"}},
    {"UpstreamByHostName",
     "[upstream.u]\naddress = \"redis.example.org:6380\"\nname = \"redis.example.org\"\n",
     {"f:9:11: \"redis.example.org:6380\" has a host name, and there is no DNS in the broker; "
      "write "
      "an address, such as \"127.0.0.1:443\" or \"[::]:443\""}},
    {"UpstreamThatListens",
     "[upstream.u]\naddress = \"systemd:web\"\nname = \"a\"\n",
     {"f:9:11: \"systemd:web\" is nothing to connect to; write an address and a port, such as "
      "\"192.0.2.1:443\""}},
    {"UpstreamWithBadNames",
     "[upstream.\"a/b\"]\naddress = \"192.0.2.1:1\"\nname = \".example.org\"\n",
     {"f:8:11: \"a/b\" is no upstream name; 1 to 64 letters, digits, -, _ and . are possible",
      "f:10:8: \".example.org\" is no host name; write the name or the address that the "
      "certificate "
      "has"}},
    {"UpstreamWithBadPin",
     "[upstream.u]\naddress = \"192.0.2.1:1\"\nname = \"a\"\npin = [\"sha256//AAAA\"]\n",
     {"f:11:8: \"sha256//AAAA\" is no pin; write \"sha256//\" and the base64 of the SHA-256 of the "
      "server's public key"}},
    {"UpstreamWithManyPins",
     "[upstream.u]\naddress = \"192.0.2.1:1\"\nname = \"a\"\npin = [" + ManyPins() + "]\n",
     {"f:11:7: 17 pins; 1 to 16 are possible"}},
    {"UpstreamWithUnknownCertificate",
     "[upstream.u]\naddress = \"192.0.2.1:1\"\nname = \"a\"\ncertificate = \"x\"\n",
     {"f:11:15: there is no certificate \"x\"; add a section [certificate.x]"}},
    {"UpstreamWithTrustByUri",
     "[upstream.u]\naddress = \"192.0.2.1:1\"\nname = \"a\"\nca_file = \"pkcs11:x\"\n",
     {"f:11:11: 'ca_file' is a URI; a path or \"cred:NAME\" is needed; only keys have URIs"}},
    {"DialOfNobody",
     "[upstream.redis]\naddress = \"192.0.2.1:1\"\nname = \"a\"\n" +
         Service("dial = [\"rediss\", \"x\"]\n"),
     {"f:14:9: there is no upstream \"rediss\"; did you mean \"redis\"?",
      "f:14:19: there is no upstream \"x\"; add a section [upstream.x]"}},
    {"WrapAsWhat",
     Service("wrap = [\"server\", \"both\"]\n"),
     {"f:11:19: \"both\" is no side of a TLS connection; \"server\" and \"client\" are possible"}},
    {"UnknownSection",
     "[services.b]\n",
     {"f:8:2: unknown key 'services'; did you mean 'service'?"}},
    {"UnknownWorkerKey",
     "[service.web.worker.colours]\nx = 1\n",
     {"f:8:21: unknown key 'colours' in [service.web.worker]; known are: command, exec, daemon, "
      "style, user, count, start, idle_timeout, read_only, read_write, network, profile, limits, "
      "environment, directory, private_tmp, core_dumps, connections, port, direct"}},
    {"BadVariables",
     Service("[service.b.worker]\nexec = [\"/b\"]\nenvironment = {1A = \"\", \"A-B\" = \"\", "
             "LISTEN_FDS = "
             "\"\", SSL_CIPHER = \"\", C = 1, D = \"\\u0000\"}\n"),
     {"f:13:16: \"1A\" is no name of a variable; letters, digits and _ are possible, and no digit "
      "in front",
      "f:13:25: \"A-B\" is no name of a variable; letters, digits and _ are possible, and no digit "
      "in front",
      "f:13:37: the broker sets \"LISTEN_FDS\" itself; leave it out",
      "f:13:54: the broker sets \"SSL_CIPHER\" itself; leave it out",
      "f:13:75: 'C' is an integer; a string is needed",
      "f:13:82: 'D' has a NUL character; text without it is needed"}},
    {"RelativeDirectory",
     Service("[service.b.worker]\nexec = [\"/b\"]\ndirectory = \"srv\"\n"),
     {"f:13:13: \"srv\" is a relative path; write it from the root, beginning with /"}},
    {"DirectoryInAnotherTmp",
     Service("[service.b.worker]\nexec = [\"/b\"]\nread_only = [\"/tmp/ab\"]\ndirectory = "
             "\"/tmp/a\"\n"),
     {"f:14:13: \"/tmp/a\" is not in the worker's own /tmp; name it in 'read_only' or "
      "'read_write', or set private_tmp = false"}},
    {"TwoKindsOfTmp",
     Service(
         "[service.b.worker]\nexec = [\"/b\"]\nread_write = [\"/var/tmp/\"]\nprivate_tmp = true\n"),
     {"f:13:15: \"/var/tmp/\" is the machine's, and private_tmp = true; leave out one of them"}},
    {"ConnectionsOfACommand",
     "[service.web.worker.connections]\nmax = 1\n",
     {"f:8:1: 'connections' is for 'exec'; 'limits' is for all workers"}},
    {"UnknownConnectionLimit",
     Service("[service.b.worker]\nexec = [\"/b\"]\nconnections = {x = 1}\n"),
     {"f:13:16: unknown key 'x' in [service.b.worker.connections]; known are: max, max_per_source, "
      "idle_timeout, lifetime, grace"}},
    {"BadIdleTimeout",
     Service("[service.b.worker]\nexec = [\"/b\"]\nconnections = {idle_timeout = \"soon\"}\n"),
     {"f:13:31: \"soon\" is not a duration; write a whole number and one of ms, s, m, h, d, such "
      "as "
      "\"500ms\" or \"5s\""}},
    {"EndlessGrace",
     Service("[service.b.worker]\nexec = [\"/b\"]\nconnections = {grace = \"never\"}\n"),
     {"f:13:24: \"never\" is not a duration; write a whole number and one of ms, s, m, h, d, such "
      "as "
      "\"500ms\" or \"5s\""}},
    {"StrictExec",
     Service("[service.b.worker]\nexec = [\"/b\"]\nprofile = \"strict\"\n"),
     {"f:12:8: 'exec' needs to start programs; leave out profile = \"strict\""}},
    {"StrictDaemon",
     Service("[service.b.worker]\ndaemon = [\"/b\"]\nprofile = \"strict\"\n"),
     {"f:12:10: 'daemon' needs to start programs; leave out profile = \"strict\""}},
    {"PortOfACommand",
     Service("[service.b.worker]\ncommand = [\"/b\"]\nport = 80\n"),
     {"f:13:8: 'port' and 'direct' are for 'daemon'; leave them out"}},
    {"DirectWithoutNetwork",
     Service("[service.b.worker]\ndaemon = [\"/b\"]\ndirect = true\n"),
     {"f:13:10: a daemon with direct connections can use them to reach the network; set network = "
      "true, or leave out 'direct'"}},
    {"DirectExec",
     Service("[service.b.worker]\nexec = [\"/b\"]\ndirect = true\n"),
     {"f:13:10: 'port' and 'direct' are for 'daemon'; leave them out"}},
    {"BadPort",
     Service("[service.b.worker]\ndaemon = [\"/b\"]\nport = 65536\n"),
     {"f:13:8: 'port' is 65536; 1 to 65535 is possible"}},
    {"UnknownLimit",
     "[service.web.worker.limits]\nx = 1\n",
     {"f:9:1: unknown key 'x' in [service.web.worker.limits]; known are: memory, cpu, processes, "
      "files"}},
    {"BadLimits",
     "[service.web.worker.limits]\nmemory = \"64X\"\ncpu = \"1y\"\nfiles = 1\n",
     {"f:9:10: \"64X\" is not a size; write a whole number and one of K, M, G, such as \"64M\"",
      "f:10:7: \"1y\" is not a duration; write a whole number and one of ms, s, m, h, d, such as "
      "\"500ms\" or \"5s\"",
      "f:11:9: 'files' is 1; 8 to 1000000 is possible"}},
    {"SizeOutOfRange",
     "[service.web.worker.limits]\nmemory = \"1K\"\n",
     {"f:9:10: \"1K\" is out of range; \"4K\" and more is possible"}},
    {"UnknownProfile",
     Service("[service.b.worker]\ncommand = [\"/bin/true\"]\nprofile = \"strickt\"\n"),
     {"f:13:11: 'profile' is \"strickt\"; one of \"default\", \"strict\" is needed"}},
    {"WrongType",
     "[broker]\nmax_relayed = \"two\"\nuser = 1\nruntime_dir = [\"/r\"]\n",
     {"f:9:15: 'max_relayed' is a string; an integer is needed",
      "f:10:8: 'user' is an integer; a string is needed",
      "f:11:15: 'runtime_dir' is a list; a string is needed"}},
    {"ValueWhereTableIs",
     "[service]\nx = 1\n",
     {"f:9:1: 'x' is an integer; a table [service.x] is needed"}},
    {"BadDuration",
     "[broker]\nhandshake_timeout = \"5 s\"\ndrain_timeout = \"-1s\"\n",
     {"f:9:21: \"5 s\" is not a duration; write a whole number and one of ms, s, m, h, d, such as "
      "\"500ms\" or \"5s\"",
      "f:10:17: \"-1s\" is not a duration; write a whole number and one of ms, s, m, h, d, such as "
      "\"500ms\" or \"5s\""}},
    {"DurationOutOfRange",
     "[broker]\nhandshake_timeout = \"0s\"\ndrain_timeout = \"18446744073709551615h\"\n",
     {"f:9:21: \"0s\" is out of range; \"1ms\" to \"1d\" is possible",
      "f:10:17: \"18446744073709551615h\" is out of range; \"1ms\" to \"30d\" is possible"}},
    {"DurationOutOfAnyRange",
     Service("[service.b.worker]\nexec = [\"/b\"]\nconnections = {lifetime = \"366d\"}\n"),
     {"f:13:27: \"366d\" is out of range; \"1ms\" to \"365d\" is possible"}},
    {"DurationWithoutUnit",
     Service("[service.b.worker]\nexec = [\"/b\"]\nconnections = {idle_timeout = 5}\n"),
     {"f:13:31: 'idle_timeout' is an integer; a duration, a string such as \"5s\", is needed"}},
    {"EmptyProgram",
     Service("[service.b.worker]\nexec = [\"\", \"/b\"]\n"),
     {"f:12:9: 'exec' is empty; give it a value or leave it out"}},
    {"DuplicateListen",
     "[service.b]\nlisten = [\n  \"127.0.0.1:443\"]\ncertificates = [\"example\"]\n",
     {"f:10:3: \"127.0.0.1:443\" is listened on twice, also at f:5:11; each address can be in one "
      "service only"}},
    {"DuplicateListenInOneService",
     "[service.b]\nlisten = [\"[::1]:1\", \"[0:0::1]:1\"]\ncertificates = [\"example\"]\n",
     {"f:9:22: \"[::1]:1\" is listened on twice, also at f:9:11; each address can be in one "
      "service only"}},
    {"AddressInAWildcard",
     "[service.b]\nlisten = [\"0.0.0.0:443\", \"[::]:443\"]\ncertificates = [\"example\"]\n",
     {"f:9:11: \"0.0.0.0:443\" overlaps with \"127.0.0.1:443\" at f:5:11; an address that stands "
      "for "
      "all of the machine leaves none of that port for others"}},
    {"WildcardFirst",
     "[service.b]\nlisten = [\"[::]:444\", \"127.0.0.1:444\", \"[::1]:444\", \"[::]:444\"]\n"
     "certificates = [\"example\"]\n",
     {"f:9:40: \"[::1]:444\" overlaps with \"[::]:444\" at f:9:11; an address that stands for all "
      "of "
      "the machine leaves none of that port for others",
      "f:9:53: \"[::]:444\" is listened on twice, also at f:9:11; each address can be in one "
      "service "
      "only"}},
    {"NameWithoutQuotes",
     "[certificate.www.example.com]\nchain = \"/c\"\nkey = \"/k\"\n"
     "[service.b]\nlisten = [\"[::]:1\"]\ncertificates = [\"www.example.com\"]\n",
     {"f:8:14: [certificate.www.example.com] needs quotes for its dots; write "
      "[certificate.\"www.example.com\"]",
      "f:13:17: there is no certificate \"www.example.com\"; add a section "
      "[certificate.\"www.example.com\"]"}},
    {"OtherAddresses",
     "[service.b]\ncertificates = [\"example\"]\n"
     "listen = [\n\"unix:/run/x\",\n\"/run/x\",\n\"[fe80::1%eth0]:443\"]\n",
     {"f:11:1: \"unix:/run/x\" is no TCP address; the broker listens on TCP and connects by TCP "
      "only: "
      "write \"127.0.0.1:443\", for example",
      "f:12:1: \"/run/x\" is no TCP address; the broker listens on TCP and connects by TCP only: "
      "write \"127.0.0.1:443\", for example",
      "f:13:1: \"[fe80::1%eth0]:443\" has the name of an interface; an address without it is "
      "needed; "
      "a socket unit can have one, see \"systemd:NAME\""}},
    {"UnknownCertificate",
     "[service.b]\nlisten = [\"127.0.0.1:1\"]\ncertificates = [\"exampel\"]\n",
     {"f:10:17: there is no certificate \"exampel\"; did you mean \"example\"?"}},
    {"NoSuchCertificate",
     "[service.b]\nlisten = [\"127.0.0.1:1\"]\ncertificates = [\"www\"]\n",
     {"f:10:17: there is no certificate \"www\"; add a section [certificate.www]"}},
    {"EmptyLists",
     "[service.b]\nlisten = []\ncertificates = []\nalpn = []\n",
     {"f:9:10: 'listen' is an empty list; put something into it or leave it out",
      "f:10:16: 'certificates' is an empty list; put something into it or leave it out",
      "f:11:8: 'alpn' is an empty list; put something into it or leave it out"}},
    {"MissingKeys",
     "[service.b]\n[certificate.b]\n",
     {"f:8:1: 'listen' is missing in [service.b]; add listen = [\"0.0.0.0:443\"]",
      "f:8:1: 'certificates' is missing in [service.b]; add certificates = [\"NAME\"] of a "
      "[certificate.NAME]",
      "f:9:1: 'chain' is missing in [certificate.b]; add chain = \"/path/to/file.pem\"",
      "f:9:1: 'key' is missing in [certificate.b]; add key = \"/path/to/file.pem\""}},
    {"PortOutOfRange",
     "[service.b]\nlisten = [\"127.0.0.1:0\", \"127.0.0.1:65536\"]\ncertificates = [\"example\"]\n",
     {"f:9:11: \"127.0.0.1:0\" has no possible port; a port is a number from 1 to 65535",
      "f:9:26: \"127.0.0.1:65536\" has no possible port; a port is a number from 1 to 65535"}},
    {"HostName",
     "[service.b]\nlisten = [\"localhost:443\"]\ncertificates = [\"example\"]\n",
     {"f:9:11: \"localhost:443\" has a host name, and there is no DNS in the broker; write an "
      "address, such as \"127.0.0.1:443\" or \"[::]:443\""}},
    {"BareIpv6",
     "[service.b]\nlisten = [\"::1:443\"]\ncertificates = [\"example\"]\n",
     {"f:9:11: \"::1:443\" is not an address and a port; write \"192.0.2.1:443\", "
      "\"[2001:db8::1]:443\" or \"systemd:NAME\""}},
    {"SystemdWithoutName",
     "[service.b]\nlisten = [\"systemd:\"]\ncertificates = [\"example\"]\n",
     {"f:9:11: \"systemd:\" has no usable socket name; write \"systemd:NAME\" with the "
      "FileDescriptorName= of the socket unit"}},
    {"ServiceName",
     "[service.\"a/b\"]\nlisten = [\"127.0.0.1:1\"]\ncertificates = [\"example\"]\n",
     {"f:8:10: \"a/b\" is no service name; 1 to 64 of a-z, 0-9, - and _ are possible, and not "
      "\"broker\""}},
    {"ServiceNamedBroker",
     "[service.broker]\nlisten = [\"127.0.0.1:1\"]\ncertificates = [\"example\"]\n",
     {"f:8:10: \"broker\" is no service name; 1 to 64 of a-z, 0-9, - and _ are possible, and not "
      "\"broker\""}},
    {"EnumValues",
     Service("policy = \"old\"\nktls = \"always\"\n"),
     {"f:11:10: 'policy' is \"old\"; one of \"intermediate\", \"modern\", \"tls12\" is needed",
      "f:12:8: 'ktls' is \"always\"; one of \"prefer\", \"require\", \"never\" is needed"}},
    {"NumbersOutOfRange",
     Service("backlog = 0\n[broker]\nmax_relayed = -1\n"),
     {"f:11:11: 'backlog' is 0; 1 to 65536 is possible",
      "f:13:15: 'max_relayed' is -1; 1 to 1000000 is possible"}},
    {"NoProgram",
     Service("[service.b.worker]\nuser = \"nobody\"\n"),
     {"f:11:1: [service.b.worker] has no program; exactly one of 'command', 'exec' and 'daemon' is "
      "needed"}},
    {"SeveralPrograms",
     Service("[service.b.worker]\ncommand = [\"/a\"]\nexec = [\"/b\"]\n"),
     {"f:11:1: [service.b.worker] has several programs; exactly one of 'command', 'exec' and "
      "'daemon' is needed"}},
    {"IdleTimeoutOfAWorkerThatAlwaysRuns",
     Service("[service.b.worker]\ncommand = [\"/a\"]\nidle_timeout = \"5m\"\n"),
     {"f:13:16: 'idle_timeout' is for workers that are started on demand; add start = "
      "\"on-demand\", or leave it out"}},
    {"ShortIdleTimeout",
     Service("[service.b.worker]\ncommand = [\"/a\"]\nstart = \"on-demand\"\n"
             "idle_timeout = \"100ms\"\n"),
     {"f:14:16: \"100ms\" is too short; at least \"1s\" is needed"}},
    {"StyleOfACommand",
     Service("[service.b.worker]\ncommand = [\"/a\"]\nstyle = \"systemd\"\n"),
     {"f:13:9: 'style' is for 'exec'; leave it out"}},
    {"UnknownStyle",
     Service("[service.b.worker]\nexec = [\"/a\"]\nstyle = \"inetd\"\n"),
     {"f:13:9: 'style' is \"inetd\"; one of \"stdio\", \"socket\", \"systemd\" is needed"}},
    {"RelativePaths",
     "[certificate.b]\nchain = \"c.pem\"\nkey = \"./k.pem\"\n[broker]\nruntime_dir = \"run\"\n",
     {"f:9:9: \"c.pem\" is a relative path; write it from the root, beginning with /",
      "f:10:7: \"./k.pem\" is a relative path; write it from the root, beginning with /",
      "f:12:15: \"run\" is a relative path; write it from the root, beginning with /"}},
    {"RelativeProgram",
     Service("[service.b.worker]\ncommand = [\"worker\"]\nread_only = [\"srv\"]\n"),
     {"f:12:12: \"worker\" is a relative path; write it from the root, beginning with /",
      "f:13:14: \"srv\" is a relative path; write it from the root, beginning with /"}},
    {"CredentialOutsideItsFolder",
     "[certificate.b]\nchain = \"/c\"\nkey = \"cred:../k\"\n",
     {"f:10:7: \"cred:../k\" names no credential; write \"cred:NAME\" with the NAME of "
      "LoadCredential="}},
    {"ChainByUri",
     "[certificate.b]\nchain = \"pkcs11:x\"\nkey = \"/k\"\n",
     {"f:9:9: 'chain' is a URI; a path or \"cred:NAME\" is needed; only keys have URIs"}},
    {"Nul",
     "[broker]\nuser = \"a\\u0000b\"\n",
     {"f:9:8: 'user' has a NUL character; text without it is needed"}},
    {"ListElementTypes",
     Service("alpn = [\"h2\", 1, \"\"]\n"),
     {"f:11:15: 'alpn' is an integer; a list of strings is needed",
      "f:11:18: 'alpn' is empty; give it a value or leave it out"}},
};

INSTANTIATE_TEST_SUITE_P(All, BadConfigTest, ::testing::ValuesIn(kBadCases),
                         [](const auto& bad) { return std::string(bad.param.name); });

TEST(ConfigTest, SyntaxErrorHasItsPlace) {
  const auto errors = ErrorsOf("[broker]\nuser = \n");
  ASSERT_EQ(errors.size(), 1u);
  EXPECT_THAT(errors[0], ::testing::StartsWith("f:2:8: "));
}

TEST(ConfigTest, KeyWrittenTwiceIsAnError) {
  EXPECT_EQ(ErrorsOf("[broker]\nuser = \"a\"\nuser = \"b\"\n").size(), 1u);
}

TEST(ConfigTest, EmptyFileServesNothing) {
  Diagnostics diagnostics("f");
  const Config config = ParseConfig("", diagnostics);
  EXPECT_TRUE(config.services.empty());
  EXPECT_THAT(diagnostics.errors(), ::testing::IsEmpty());
  EXPECT_THAT(diagnostics.warnings(), ElementsAre("f:1:1: there is no service, nothing is served; "
                                                  "add a section [service.NAME]"));
}

TEST(ConfigTest, AllErrorsComeInTheOrderOfTheFile) {
  const auto errors = ErrorsOf("[service.z]\nbacklog = 0\n[broker]\nuser = 1\nx = 1\n");
  EXPECT_THAT(errors,
              ElementsAre(::testing::StartsWith("f:1:1: "), ::testing::StartsWith("f:1:1: "),
                          ::testing::StartsWith("f:2:11: "), ::testing::StartsWith("f:4:8: "),
                          ::testing::StartsWith("f:5:1: ")));
}

TEST(ConfigTest, TextOfTheFileCannotForgeALine) {
  const auto errors = ErrorsOf("[service.\"a\\nb\\u001b\"]\n");
  ASSERT_FALSE(errors.empty());
  EXPECT_EQ(errors.back().find('\n'), std::string::npos);
  EXPECT_EQ(errors.back().find('\x1b'), std::string::npos);
}

TEST(ConfigTest, UnreadableFile) {
  Diagnostics diagnostics("/nonexistent/broker.toml");
  ReadConfig(diagnostics);
  EXPECT_THAT(diagnostics.errors(),
              ElementsAre("/nonexistent/broker.toml:1:1: cannot be read: No such file or "
                          "directory; a readable TOML file is needed"));
}

TEST(ConfigTest, DirectoryInsteadOfAFile) {
  Diagnostics diagnostics("/");
  ReadConfig(diagnostics);
  EXPECT_TRUE(diagnostics.failed());
}

TEST(ClosestTest, OneMistakeInAShortWordTwoInALongOne) {
  EXPECT_EQ(Closest("usr", {"user", "count"}), "user");
  EXPECT_EQ(Closest("certifcats", {"user", "certificates"}), "certificates");
  EXPECT_EQ(Closest("xy", {"user", "count"}), "");
}

}  // namespace
}  // namespace tlsbroker::supervisor
