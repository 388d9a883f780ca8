// SPDX-License-Identifier: Apache-2.0
#include <cstdio>

#include "tests/isolation/testcases/attacks.h"

int main(int argc, char** argv) {
  using namespace tlsbroker::attacks;
  if (argc < 2) return 250;
  const std::string name = argv[1];
  const Arguments arguments(argv + 2, argv + argc);
  for (const auto& family : {KeyAttacks(), UringAttacks(), ProcessAttacks(), KernelAttacks(),
                             FileAttacks(), NetworkAttacks(), QueueAttacks()}) {
    for (const Attack& attack : family) {
      if (name == attack.name) return attack.run(arguments);
    }
  }
  std::fprintf(stderr, "no attack %s\n", argv[1]);
  return 250;
}
