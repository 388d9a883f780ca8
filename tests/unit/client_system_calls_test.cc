// SPDX-License-Identifier: Apache-2.0
// client-lib/README.md lists exactly the system calls that libtlsbroker makes. Everything that a
// worker does with the library runs under a filter that allows what the rows of its functions list,
// and nothing else; and without any single one of these calls some operation is killed.

#include <gtest/gtest.h>
#include <stdlib.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "tests/unit/client_operations.h"
#include "tests/unit/ktls_pair.h"
#include "tests/unit/system_call_table.h"
#include "tests/unit/under_filter.h"

namespace tlsbroker {
namespace {

// Rows that are allowed to all operations.
const std::vector<std::string> kCommonRows = {kMemory, kWaiting, kEnd};

enum class Mode { kStream, kDirect };

class ListedSystemCalls : public ::testing::Test {
 protected:
  ListedSystemCalls() {
    EXPECT_NE(mkdtemp(directory_.data()), nullptr);
    table_ = ReadSystemCallTable(CLIENT_LIB_README);
  }
  ~ListedSystemCalls() override { std::filesystem::remove_all(directory_); }

  std::vector<Operation> Operations(Mode mode) const {
    if (mode == Mode::kDirect) return DirectOperations();
    std::vector<Operation> all = QueueOperations(directory_);
    for (const auto& some : {StreamOperations(), RuntimeOperations()}) {
      all.insert(all.end(), some.begin(), some.end());
    }
    return all;
  }

  const TableRow& Row(const std::string& name) const {
    static const TableRow kNone;
    const TableRow* row = FindRow(table_, name);
    if (row == nullptr) ADD_FAILURE() << "no row \"" << name << "\" in " << CLIENT_LIB_README;
    return row == nullptr ? kNone : *row;
  }

  Calls Allowed(const Operation& operation, Mode mode) const {
    Calls allowed;
    std::vector<std::string> rows = operation.rows;
    rows.insert(rows.end(), kCommonRows.begin(), kCommonRows.end());
    for (const std::string& name : rows) {
      const TableRow& row = Row(name);
      allowed.insert(row.always.begin(), row.always.end());
      if (mode == Mode::kDirect) allowed.insert(row.direct.begin(), row.direct.end());
    }
    return allowed;
  }

  void AllSucceed(Mode mode) const {
    for (const Operation& operation : Operations(mode)) {
      const Calls allowed = Allowed(operation, mode);
      const Ending ending = RunUnder(allowed, operation);
      EXPECT_TRUE(ending.succeeded)
          << operation.name << " (" << operation.rows.front() << "): " << ending.description
          << (ending.killed ? ": " + RefusedCall(allowed, operation) : "");
    }
  }

  bool SomeDiesWithout(const std::string& call, const TableRow& row, Mode mode) const {
    const auto operations = Operations(mode);
    return std::any_of(operations.begin(), operations.end(), [&](const Operation& operation) {
      const bool of_row = std::any_of(operation.rows.begin(), operation.rows.end(),
                                      [&](const std::string& name) { return &Row(name) == &row; });
      if (!of_row) return false;
      Calls allowed = Allowed(operation, mode);
      allowed.erase(call);
      return RunUnder(allowed, operation).killed;
    });
  }

  void AllAreNeeded(Mode mode) const {
    for (const TableRow& row : table_) {
      for (const std::string& call : mode == Mode::kDirect ? row.direct : row.always) {
        EXPECT_EQ(SomeDiesWithout(call, row, mode), IsUsedHere(call, row, mode))
            << call << " in the row \"" << row.name << '"';
      }
    }
  }

  // Where the clock is in the vDSO, its system call is not seen.
  bool IsUsedHere(const std::string& call, const TableRow& row, Mode mode) const {
    if (call != "clock_gettime" || row.name != kWaiting) return true;
    Calls allowed = Allowed(ClockOperation(), mode);
    allowed.erase(call);
    return RunUnder(allowed, ClockOperation()).killed;
  }

  std::string directory_ =
      (std::filesystem::temp_directory_path() / "tlsbroker-calls-XXXXXX").string();
  std::vector<TableRow> table_;
};

class ListedSystemCallsDirect : public ListedSystemCalls {
 protected:
  void SetUp() override {
    auto [peer, end] = TcpPair();
    if (InstallKeys(end.get(), TLS_1_3_VERSION)) return;
    if (Expected("ktls")) FAIL() << "kernel TLS is expected here: " << strerror(errno);
    GTEST_SKIP() << "no kernel TLS: " << strerror(errno);
  }
};

// Every function of the public header has a row, and every row has at least one function.
TEST_F(ListedSystemCalls, AreThoseOfEveryFunction) {
  std::ifstream file(TLSBROKER_HEADER);
  size_t functions = 0;
  std::vector<const TableRow*> used;
  for (std::string line; std::getline(file, line);) {
    const size_t end = line.find('(');
    if (!line.starts_with("TLSBROKER_API ") || end == std::string::npos) continue;
    ++functions;
    const size_t begin = line.find_last_of(" *", end) + 1;
    used.push_back(&Row(line.substr(begin, end - begin)));
  }
  EXPECT_GT(functions, 30u);
  for (const char* name : {kKeys, kAttached, kMemory, kThreadsMemory, kWaiting, kEnd})
    used.push_back(&Row(name));
  for (const TableRow& row : table_) {
    EXPECT_NE(std::find(used.begin(), used.end(), &row), used.end())
        << "the row \"" << row.name << "\" is of no function that there is";
  }
}

TEST_F(ListedSystemCalls, AreEnough) { AllSucceed(Mode::kStream); }

TEST_F(ListedSystemCalls, AreAllNeeded) { AllAreNeeded(Mode::kStream); }

TEST_F(ListedSystemCallsDirect, AreEnough) { AllSucceed(Mode::kDirect); }

TEST_F(ListedSystemCallsDirect, AreAllNeeded) { AllAreNeeded(Mode::kDirect); }

}  // namespace
}  // namespace tlsbroker
