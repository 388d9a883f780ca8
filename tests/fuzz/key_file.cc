// SPDX-License-Identifier: Apache-2.0
// A file with a key and its chain, in PEM, DER, PKCS#12 or PKCS#7, as a keyholder looks into it.
// The first byte says how: 1: there is a passphrase; 2: the file is named twice, as chain and as
// key. What goes to the supervisor and to handshakers has no key in it.

#include <sys/mman.h>
#include <unistd.h>

#include <string_view>

#include "broker/keyholder/inspection.h"
#include "protocol/certificate_facts.h"
#include "tests/fuzz/fuzz.h"

namespace {

tlsbroker::UniqueFd FileWith(const void* data, size_t size) {
  tlsbroker::UniqueFd file(memfd_create("fuzz", MFD_CLOEXEC));
  FUZZ_ASSERT(write(file.get(), data, size) == static_cast<ssize_t>(size));
  return file;
}

}  // namespace

int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace tlsbroker;
  constexpr std::string_view kPassphrase = "secret\n";
  // Expensive to make, and one reads many files. Never freed: OpenSSL's own cleanup may come
  // before.
  static KeyFileReader& reader = *new KeyFileReader;
  LoadOlderCiphers();
  if (size == 0) return kRefused;
  supervision::Inspect files;
  files.chain = FileWith(data + 1, size - 1);
  if ((data[0] & 1) != 0) {
    files.has_passphrase = true;
    files.passphrase = FileWith(kPassphrase.data(), kPassphrase.size());
  }
  if ((data[0] & 2) != 0) {
    files.has_key_file = true;
    files.key_file = UniqueFd(dup(files.chain.get()));
  }
  const supervision::CertificateFacts facts =
      FactsOf(files, absl::UnavailableError("the key has no URI"), reader, SystemAuthorities());
  size_t errors = 0;
  for (const auto& finding : facts.findings) {
    FUZZ_ASSERT(!finding.wrong.empty() && !finding.right.empty());
    if (finding.error) ++errors;
  }
  FUZZ_ASSERT(!facts.chain_pem.empty() || errors > 0);
  FUZZ_ASSERT(facts.chain_pem.find("PRIVATE KEY") == std::string::npos);
  FUZZ_ASSERT(facts.chain_pem.empty() || LeafOfChain(facts.chain_pem).ok());
  const auto bytes = supervision::EncodeFacts(facts);
  const auto decoded = supervision::DecodeFacts(bytes);
  FUZZ_ASSERT(!bytes.empty() && decoded && decoded->chain_pem == facts.chain_pem);
  return errors == 0 ? 0 : kRefused;
}
