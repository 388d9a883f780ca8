// SPDX-License-Identifier: Apache-2.0
// What the stages of a connection share in a handshaker, for tests of single stages. Test only.

#ifndef TLSBROKER_TESTS_UNIT_HANDSHAKER_H_
#define TLSBROKER_TESTS_UNIT_HANDSHAKER_H_

#include <asio/io_context.hpp>
#include <chrono>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "broker/handshaker/certificates.h"
#include "broker/handshaker/service.h"
#include "tests/testlib/certificate.h"

namespace tlsbroker::testlib {

// `max_handshakes` limits the handshakes at once, in all and from one source; relayed connections
// are not limited.
struct Handshaker {
  explicit Handshaker(uint32_t max_handshakes)
      : shared{io,
               nullptr,
               std::chrono::seconds(10),
               Admission(max_handshakes, max_handshakes),
               Admission(1000, 1000),
               KtlsState(KtlsCapabilities::Probe(nullptr)),
               {},
               {},
               {}} {}
  asio::io_context io;
  Shared shared;
};

// Does what LoadedCertificate::Load() does, except that the key is in this process.
inline std::shared_ptr<const LoadedCertificate> Loaded(const std::string& kind,
                                                       std::vector<std::string> names) {
  auto loaded = std::make_shared<LoadedCertificate>();
  loaded->key = NewKey(kind);
  loaded->leaf = NewCertificate(loaded->key.get(), names.front());
  loaded->chain.reset(sk_X509_new_null());
  loaded->ReadLeaf();
  loaded->names = std::move(names);
  return loaded;
}

}  // namespace tlsbroker::testlib

#endif  // TLSBROKER_TESTS_UNIT_HANDSHAKER_H_
