// SPDX-License-Identifier: Apache-2.0
// Following a KeyUpdate (RFC 8446 section 4.6.3) in direct mode: the worker has no secret, so it
// asks the broker with the token that came with the connection (PROTOCOL.md section 6). Part of
// libtlsbroker; runs in workers.

#ifndef TLSBROKER_CLIENT_LIB_REKEY_H_
#define TLSBROKER_CLIENT_LIB_REKEY_H_

#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>
#include <mutex>
#include <vector>

#include "protocol/request.h"
#include "protocol/unique_fd.h"

namespace tlsbroker::client {

class Rekeyer {
 public:
  // An empty token or null `requests`: keys cannot change.
  Rekeyer(std::vector<uint8_t> token, std::shared_ptr<UniqueFd> requests)
      : token_(std::move(token)), requests_(std::move(requests)) {}

  bool possible() const { return possible_; }

  // The broker's answer; kFailed also if there was none in time. On kDone the token is the new one.
  request::Status Ask(request::Direction direction, int socket);

  // Counts one KeyUpdate of the peer; false if there were too many in a second.
  bool Admit();

  // We owe the peer a KeyUpdate, before the next thing that we write.
  std::atomic<bool> owed = false;

  // Counts what was written, and says when it is time for a KeyUpdate of our own (RFC 8446 section
  // 5.5: no more than 2^24.5 records with one AES-GCM key). Only for the writing thread.
  void CountWritten(uint64_t bytes) { records_ += (bytes + kRecord - 1) / kRecord; }
  bool Due() const { return records_ >= kRecordsPerKey; }
  // The key has sealed all that it may, because nobody could change it when it was due.
  bool Exhausted() const { return records_ >= kMostRecordsPerKey; }
  void StartCounting() { records_ = 0; }

  static constexpr int kMaxPerSecond = 8;
  static constexpr uint64_t kRecord = 16 * 1024;
  static constexpr uint64_t kRecordsPerKey = 1 << 23;
  static constexpr uint64_t kMostRecordsPerKey = 23'726'566;  // 2^24.5

 private:
  request::Status AskOnce(const std::vector<uint8_t>& message, int socket, request::Answer& answer);

  std::mutex mutex_;  // protects token_
  std::vector<uint8_t> token_;
  const std::shared_ptr<UniqueFd> requests_;
  const bool possible_ = !token_.empty() && requests_ != nullptr;
  uint64_t records_ = 0;
  int received_ = 0;
  std::chrono::steady_clock::time_point received_since_{};
};

}  // namespace tlsbroker::client

#endif  // TLSBROKER_CLIENT_LIB_REKEY_H_
