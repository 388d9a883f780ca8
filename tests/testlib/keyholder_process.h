// SPDX-License-Identifier: Apache-2.0
// The real tlsbroker-keyholder; the test takes the places of its supervisor and of handshakers.
// Test only.

#ifndef TLSBROKER_TESTS_TESTLIB_KEYHOLDER_PROCESS_H_
#define TLSBROKER_TESTS_TESTLIB_KEYHOLDER_PROCESS_H_

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "protocol/supervision.h"
#include "protocol/unique_fd.h"
#include "tests/testlib/reports.h"

namespace tlsbroker::testlib {

// A handshaker's ends of a signing channel.
struct SigningEnds {
  UniqueFd requests;
  UniqueFd answers;
};

// An unnamed file with this content, opened for reading.
UniqueFd FileWith(const std::string& bytes);

class KeyholderProcess {
 public:
  // Starts the program with a control channel, or with `fd3` in the channel's place. From then on
  // the test ignores SIGPIPE; the program starts with the default disposition.
  explicit KeyholderProcess(UniqueFd fd3 = UniqueFd());
  KeyholderProcess(const KeyholderProcess&) = delete;
  KeyholderProcess& operator=(const KeyholderProcess&) = delete;
  ~KeyholderProcess();  // kills it if it still runs

  void Send(const supervision::Message& message);
  // Sends the confinement that every test needs: an unprivileged user if the test is root.
  void SendConfinement();
  void SendCertificate(uint16_t id, const std::string& chain_pem, const std::string& key_file);
  // Sends a new signing channel and returns the handshaker's ends of it.
  SigningEnds SendChannel(uint16_t index, std::vector<uint16_t> certificate_ids,
                          std::vector<uint16_t> client_certificate_ids = {},
                          supervision::Policy policy = supervision::Policy::kIntermediate);
  // Sends Start and returns the answer: Ready, Failed, or nothing if the program ended without one.
  std::optional<supervision::Message> Start();

  void CloseControl() { control_.Reset(); }
  int control() const { return control_.get(); }
  pid_t pid() const { return pid_; }
  // Waits for the program's end: its exit status, or minus the signal that ended it.
  int Wait();
  // Everything that the program has logged.
  std::string Log() const;

 private:
  UniqueFd control_;
  Reports reports_;
  UniqueFd log_;
  pid_t pid_ = -1;
};

}  // namespace tlsbroker::testlib

#endif  // TLSBROKER_TESTS_TESTLIB_KEYHOLDER_PROCESS_H_
