// replay DIRECTORY: runs a fuzz target on every seed, complete and truncated at sixteen places, without a fuzzer. A
// seed whose name begins with ok_ must be accepted, one with bad_ refused; any other may be either. Fails also if
// memory exceeds the limit.
#include <sys/resource.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <vector>

#include "tests/fuzz/fuzz_target.hpp"

int main(int argc, char** argv) {
  namespace fs = std::filesystem;
  constexpr int64_t kMaxMemoryKib = 512 << 10;
  constexpr size_t kCuts = 16;
  if (argc != 2 || !fs::is_directory(argv[1])) {
    std::fprintf(stderr, "usage: %s DIRECTORY\n", argv[0]);
    return 2;
  }
  std::vector<fs::path> seeds;
  for (const fs::directory_entry& entry : fs::directory_iterator(argv[1])) seeds.push_back(entry.path());
  std::sort(seeds.begin(), seeds.end());
  int num_failed = seeds.empty() ? 1 : 0;
  for (const fs::path& seed : seeds) {
    std::ifstream file(seed, std::ios::binary);
    const std::string input((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
    const std::string name = seed.filename();
    std::fprintf(stderr, "%s\n", name.c_str());  // before the run, so that the last line names the input of a crash
    const bool is_accepted = plumb::fuzz::accepts(input);
    const bool is_expected = name.starts_with("ok_") ? is_accepted : !name.starts_with("bad_") || !is_accepted;
    if (!is_expected) {
      std::fprintf(stderr, "  expected it to be %s\n", is_accepted ? "refused" : "accepted");
      ++num_failed;
    }
    for (size_t cut = 0; cut < kCuts; ++cut) plumb::fuzz::accepts(input.substr(0, input.size() * cut / kCuts));
  }
  rusage usage{};
  ::getrusage(RUSAGE_SELF, &usage);
  std::fprintf(stderr, "%zu seeds, at most %ld MiB\n", seeds.size(), usage.ru_maxrss >> 10);
  return num_failed > 0 || usage.ru_maxrss > kMaxMemoryKib ? 1 : 0;
}
