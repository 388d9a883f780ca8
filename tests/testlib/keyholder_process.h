// The real tlsbroker-keyholder, with the test in the places of its supervisor and of handshakers.
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

namespace tlsbroker::testlib {

// What `bytes` are when read from an unnamed file.
UniqueFd FileWith(const std::string& bytes);

class KeyholderProcess {
 public:
  // Starts the program with a control channel, or with `fd3` in its place.
  explicit KeyholderProcess(UniqueFd fd3 = UniqueFd());
  KeyholderProcess(const KeyholderProcess&) = delete;
  KeyholderProcess& operator=(const KeyholderProcess&) = delete;
  ~KeyholderProcess();  // kills it if it still runs

  void Send(const supervision::Message& message);
  // Of the kind that every test needs: an unprivileged user if the test is root.
  void SendConfinement();
  void SendCertificate(uint16_t id, const std::string& chain_pem, const std::string& key_file);
  // The handshaker's end of a new channel.
  UniqueFd SendChannel(uint16_t index, std::vector<uint16_t> certificate_ids,
                       std::vector<uint16_t> client_certificate_ids = {});
  // Start, and the answer: Ready, Failed, or nothing if the program ended without one.
  std::optional<supervision::Message> Start();

  void CloseControl() { control_.Reset(); }
  int control() const { return control_.get(); }
  pid_t pid() const { return pid_; }
  // The exit status, or minus the signal that ended it. Waits.
  int Wait();
  // All that it has logged.
  std::string Log() const;

 private:
  UniqueFd control_;
  UniqueFd log_;
  pid_t pid_ = -1;
};

}  // namespace tlsbroker::testlib

#endif  // TLSBROKER_TESTS_TESTLIB_KEYHOLDER_PROCESS_H_
