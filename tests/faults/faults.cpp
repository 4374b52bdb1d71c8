// plumb_faults: injects every fault of the table into runs, and reports what they survive.
#include <fmt/format.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <limits>
#include <random>
#include <regex>
#include <string>

#include "tests/faults/chaos.hpp"
#include "tests/faults/leftovers.hpp"
#include "tests/faults/run_case.hpp"
#include "tests/faults/verify.hpp"
#include "tests/support/verdict.hpp"

namespace plumb::test {

namespace {

constexpr int kNumPlaces = 200;
constexpr int kSmokeRanks = 4;  // faults are injected in rank 3

struct Options {
  bool is_smoke = false, is_listed = false;
  std::string only;  // a regular expression for the names of rows
  int num_times = 1;
  double chaos_minutes = 0;
  uint64_t seed = std::random_device()();
  std::string table;  // a file for the Markdown
};

int usage() {
  fmt::print(stderr,
             "usage: plumb_faults [--smoke | --only REGEX] [--list] [--times N] [--table FILE]\n"
             "       plumb_faults --chaos MINUTES [--seed N] [--table FILE]\n");
  return 2;
}

bool read_options(int argc, char** argv, Options& options) {
  for (int i = 1; i < argc; ++i) {
    const std::string name = argv[i];
    const char* const value = i + 1 < argc ? argv[i + 1] : nullptr;
    if (name == "--smoke") {
      options.is_smoke = true;
    } else if (name == "--list") {
      options.is_listed = true;
    } else if (!value) {
      return false;
    } else {
      ++i;
      if (name == "--only") {
        options.only = value;
      } else if (name == "--times") {
        options.num_times = std::max(1, std::atoi(value));
      } else if (name == "--chaos") {
        options.chaos_minutes = std::atof(value);
      } else if (name == "--seed") {
        options.seed = std::strtoull(value, nullptr, 10);
      } else if (name == "--table") {
        options.table = value;
      } else {
        return false;
      }
    }
  }
  return true;
}

std::string render(const Row& row) {
  return fmt::format("| {} | {} | {} | {} | {} | {} | {} | {} |\n", row.fault, row.phase, row.exit_code,
                     row.named.empty() ? "" : "`" + row.named + "`", row.detected, row.steps_lost, row.same_bits,
                     row.left);
}

constexpr const char* kHead =
    "| fault | phase | exit code | named | time to detect | steps lost | same bits | left over |\n"
    "|---|---|---|---|---|---|---|---|\n";

/// Flips one bit in each of 200 random places of each class of file of a checkpoint from 8 ranks.
std::vector<Row> flip_rows(FaultHarness& harness) {
  const Place place = harness.make_place("flips", Start::kInDpo);
  std::vector<Row> rows;
  for (const FlipCount& count : flip_bytes(place / "run/dpo/checkpoints/step-000020", kNumPlaces)) {
    const std::string found = fmt::format("found {} of {}", count.num_found, count.num_flipped);
    Row row{fmt::format("bit flipped in {} places", count.num_flipped), count.file_class, "65", found};
    if (count.num_found != count.num_flipped) row.failures.push_back(found);
    rows.push_back(row);
  }
  harness.clear(place);
  return rows;
}

/// The row as a regular test, which must not fail on a busy machine: on fewer ranks, unless it is about their number.
void make_smaller(FaultCase& given) {
  if (given.max_detect_seconds > 0) given.max_detect_seconds = std::numeric_limits<double>::infinity();
  if (given.attempts.size() > 1) return;
  given.attempts.front().num_ranks = kSmokeRanks;
  given.last_ranks = kSmokeRanks;
}

int run_table(const Options& options, const std::string& directory, bool has_mounts) {
  const bool has_preload = std::getenv("LD_PRELOAD") == nullptr && !PLUMB_IS_SANITIZED;
  std::vector<FaultCase> cases;
  for (const FaultCase& given : fault_cases()) {
    const bool is_selected = std::regex_search(given.fault + ", " + given.phase, std::regex(options.only));
    if (!is_selected || (options.is_smoke && !given.is_smoke)) continue;
    cases.push_back(given);
    if (options.is_smoke) make_smaller(cases.back());
  }
  if (options.is_listed) {
    for (const FaultCase& given : cases) fmt::print("{}, {}\n", given.fault, given.phase);
    return 0;
  }
  const auto start = std::chrono::steady_clock::now();
  FaultHarness harness(directory, {.num_ranks = options.is_smoke ? kSmokeRanks : 8});
  fmt::print("undisturbed: {:.1f} s\n{}", harness.golden_seconds(), kHead);
  std::string table = kHead;
  int num_failed = 0, num_skipped = 0;
  const auto add = [&](const Row& row) {
    table += render(row);
    fmt::print("{}", render(row));
    for (const std::string& failure : row.failures) fmt::print("FAILED after {:.0f} s: {}\n", row.seconds, failure);
    std::fflush(stdout);
    num_failed += row.failures.empty() ? 0 : 1;
  };
  for (const FaultCase& given : cases) {
    const bool can_run = (has_mounts || !given.needs_mounts) && (has_preload || !given.needs_preload);
    num_skipped += can_run ? 0 : 1;
    add(can_run ? run_case(harness, given, options.num_times)
                : Row{given.fault, given.phase, "skipped: the system does not permit it"});
  }
  if (std::regex_search("bit flipped in 200 places", std::regex(options.only)))
    for (const Row& row : flip_rows(harness)) add(row);
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  fmt::print("{} rows in {:.0f} s, {} failed, {} skipped\n", cases.size(), seconds, num_failed, num_skipped);
  if (!options.table.empty()) std::ofstream(options.table) << table;
  return verdict(num_failed > 0, num_skipped);
}

int run(int argc, char** argv) {
  Options options;
  if (!read_options(argc, argv, options)) return usage();
  const bool has_mounts = enter_own_namespace();
  if (!has_mounts) fmt::print("no mount namespace of its own: rows of full disks are skipped\n");
  const char* const base = std::getenv("TMPDIR");
  std::string directory = std::string(base ? base : "/tmp") + "/plumb-faults-XXXXXX";
  if (::mkdtemp(directory.data()) == nullptr) throw std::runtime_error("cannot make " + directory);
  int result = 1;
  try {
    result = options.chaos_minutes > 0
                 ? verdict(run_chaos(directory, options.chaos_minutes, options.seed, options.table) > 0, 0)
                 : run_table(options, directory, has_mounts);
  } catch (const std::exception& error) {
    fmt::print(stderr, "{}\n", error.what());
  }
  std::error_code ignored;
  std::filesystem::remove_all(directory, ignored);
  return result;
}

}  // namespace

}  // namespace plumb::test

int main(int argc, char** argv) { return plumb::test::run(argc, argv); }
