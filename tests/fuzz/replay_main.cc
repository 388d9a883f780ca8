// SPDX-License-Identifier: Apache-2.0
// Runs a fuzz target on each file of the given folders, without libFuzzer. The decoder has to take
// each file, except those in a folder "refused": of these it must take none.

#include <filesystem>
#include <fstream>
#include <iterator>
#include <vector>

#include "tests/fuzz/fuzz.h"

namespace {

bool Replay(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  const std::vector<char> bytes{std::istreambuf_iterator<char>(file), {}};
  const int result =
      LLVMFuzzerTestOneInput(reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size());
  const bool refused = path.parent_path().filename() == "refused";
  if (file && (result == kRefused) == refused) return true;
  std::fprintf(stderr, "%s %s\n", path.c_str(),
               !file     ? "cannot be read"
               : refused ? "is taken, and in a folder of those that are not"
                         : "is not taken: mend it, or move it to the folder \"refused\"");
  return false;
}

}  // namespace

int main(int argc, char** argv) {
  int passed = 0;
  int failed = 0;
  for (int i = 1; i < argc; ++i) {
    for (const auto& entry : std::filesystem::recursive_directory_iterator(argv[i])) {
      if (entry.is_regular_file()) ++(Replay(entry.path()) ? passed : failed);
    }
  }
  std::printf("%d passed, %d failed, 0 skipped\n", passed, failed);
  return passed > 0 && failed == 0 ? 0 : 1;
}
