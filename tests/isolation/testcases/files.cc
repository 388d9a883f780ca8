// SPDX-License-Identifier: Apache-2.0
// Attacks on files; the first argument is the path.

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/isolation/testcases/attacks.h"

namespace tlsbroker::attacks {
namespace {

int Open(const Arguments& arguments, int flags) {
  return ErrorOf(open(arguments.at(0).c_str(), flags, 0600));
}
int Read(const Arguments& arguments) { return Open(arguments, O_RDONLY); }
int Write(const Arguments& arguments) { return Open(arguments, O_WRONLY); }
int Create(const Arguments& arguments) { return Open(arguments, O_WRONLY | O_CREAT | O_EXCL); }
int List(const Arguments& arguments) { return opendir(arguments.at(0).c_str()) ? 0 : errno; }
int Remove(const Arguments& arguments) { return ErrorOf(unlink(arguments.at(0).c_str())); }
int Truncate(const Arguments& arguments) { return ErrorOf(truncate(arguments.at(0).c_str(), 0)); }
// Truncates the file without opening it for writing. The second argument is the access mode.
int TruncateByOpen(const Arguments& arguments) {
  return Open(arguments, O_TRUNC | std::stoi(arguments.at(1)));
}
int TruncateByOpen2(const Arguments& arguments) {
  const uint64_t how[3] = {O_TRUNC, 0, 0};  // struct open_how
  return ErrorOf(syscall(SYS_openat2, AT_FDCWD, arguments.at(0).c_str(), how, sizeof(how)));
}
int MakeDirectory(const Arguments& arguments) {
  return ErrorOf(mkdir(arguments.at(0).c_str(), 0700));
}

// Executes another program with the rest of the arguments; the result is what that program reports.
int Execute(const Arguments& arguments) {
  std::vector<char*> argv;
  for (const std::string& argument : arguments) argv.push_back(const_cast<char*>(argument.c_str()));
  argv.push_back(nullptr);
  execv(argv[0], argv.data());
  return errno;
}

constexpr Attack kAttacks[] = {
    {"read", Read},
    {"write", Write},
    {"create", Create},
    {"list", List},
    {"remove", Remove},
    {"truncate", Truncate},
    {"truncate-by-open", TruncateByOpen},
    {"truncate-by-openat2", TruncateByOpen2},
    {"mkdir", MakeDirectory},
    {"execute", Execute},
};

}  // namespace

std::span<const Attack> FileAttacks() { return kAttacks; }

}  // namespace tlsbroker::attacks
