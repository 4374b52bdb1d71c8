#include "io/dataset/packing_file.hpp"

#include <gtest/gtest.h>

#include <span>
#include <utility>

#include "io/dataset/dataset.hpp"
#include "io/dataset/packing.hpp"
#include "tests/io/dataset/token_dataset.hpp"
#include "tests/support/refusal.hpp"
#include "tests/support/shared_directory.hpp"

namespace plumb {
namespace {

constexpr int64_t kCapacity = 16;
constexpr int64_t kNumExamples = 500;
constexpr const char* kName = "packing-16.h5";

class PackingFileTest : public testing::Test {
 protected:
  PackingFileTest() : directory_(comm_) {
    comm_.run_on_rank0([&] { write_made_dataset(directory_.path(), {200, 0, 300}); });
  }

  /// Collective: every rank finds the plan of the corpus.
  void expect_plan() {
    const Dataset dataset(directory_.path());
    const PackingPlan expected = pack_best_fit(dataset.example_tokens(0, kNumExamples), kCapacity);
    const PackingFile file(dataset.directory(), dataset.index(), kCapacity);
    EXPECT_EQ(file.num_rows(), expected.num_rows());
    for (int64_t row = 0; row < std::min(file.num_rows(), expected.num_rows()); ++row) {
      const std::span<const int64_t> examples = expected.row(row);
      EXPECT_EQ(file.examples_of_row(row), std::vector<int64_t>(examples.begin(), examples.end())) << row;
    }
    comm_.barrier();
  }

  /// Collective: rank 0 writes a plan with these arrays, which the library finds nothing wrong with.
  void write_plan(const std::vector<int64_t>& offsets, const std::vector<int64_t>& examples,
                  const std::string& key = "made") {
    comm_.run_on_rank0([&] {
      std::filesystem::remove(directory_ / kName);
      Hdf5File file = Hdf5File::create(directory_ / kName);
      file.set_attribute("format_version", 1);
      file.set_attribute("kind", "packing");
      file.set_attribute("dataset_key", key);
      file.set_attribute("capacity_tokens", kCapacity);
      file.set_attribute("max_row_tokens", kCapacity);
      for (const auto& [name, values] : {std::pair{"offsets", &offsets}, std::pair{"examples", &examples}}) {
        Hdf5Dataset array = file.create_dataset<int64_t>(name, {1024, -1});
        array.append(std::span(*values));
        array.close();
      }
      file.close();
    });
  }

  Communicator comm_;
  SharedDirectory directory_;
};

TEST_F(PackingFileTest, IsMadeOnceAndKept) {
  const Dataset dataset(directory_.path());
  EXPECT_THROW(PackingFile(dataset.directory(), dataset.index(), kCapacity), InputOutputError);
  comm_.barrier();
  ensure_packing(comm_, dataset, kCapacity);
  expect_plan();
  EXPECT_EQ(directory_.num_entries(), 5);  // index, shards and the plan: no temporary file
  const auto written_at = std::filesystem::last_write_time(directory_ / kName);
  comm_.barrier();
  ensure_packing(comm_, dataset, kCapacity);
  EXPECT_EQ(std::filesystem::last_write_time(directory_ / kName), written_at);
  ensure_packing(comm_, dataset, 2 * kCapacity);  // another capacity, another plan
  EXPECT_EQ(directory_.num_entries(), 6);
}

TEST_F(PackingFileTest, ADamagedPlanIsMadeAgain) {
  const Dataset dataset(directory_.path());
  ensure_packing(comm_, dataset, kCapacity);
  const std::string bytes = directory_.read(kName);
  for (size_t at = 0; at < bytes.size(); at += 997) {
    std::string damaged = bytes;
    damaged[at] = static_cast<char>(damaged[at] ^ 0x40);
    directory_.write(kName, damaged);
    ensure_packing(comm_, dataset, kCapacity);
    expect_plan();
  }
  directory_.write(kName, bytes.substr(0, bytes.size() / 2));
  ensure_packing(comm_, dataset, kCapacity);
  expect_plan();
}

TEST_F(PackingFileTest, APlanOfSomethingElseIsRefusedAndMadeAgain) {
  const Dataset dataset(directory_.path());
  std::vector<int64_t> every(kNumExamples), ones(kNumExamples + 1);
  for (size_t i = 0; i < ones.size(); ++i) ones[i] = static_cast<int64_t>(i);
  for (size_t i = 0; i < every.size(); ++i) every[i] = static_cast<int64_t>(i);
  write_plan(ones, every);
  EXPECT_EQ(PackingFile(dataset.directory(), dataset.index(), kCapacity).num_rows(), kNumExamples);
  comm_.barrier();

  std::vector<int64_t> twice = every, outside = every, unordered_offsets = ones, too_far = ones;
  twice[7] = 8;
  outside[7] = kNumExamples;
  std::swap(unordered_offsets[3], unordered_offsets[4]);
  too_far.back() = kNumExamples + 1;
  struct Case {
    std::vector<int64_t> offsets, examples;
    std::string key, expected;
  };
  for (const Case& wrong :
       {Case{ones, twice, "made", "got 8 again"}, Case{ones, outside, "made", "row 7"},
        Case{unordered_offsets, every, "made", "row 4"}, Case{too_far, every, "made", "got 501"},
        Case{{0, 1}, every, "made", "offsets up to"}, Case{{0, kNumExamples}, {0}, "made", "all exam"},
        Case{{0}, every, "made", "all exam"}, Case{ones, every, "other", "key"}}) {
    write_plan(wrong.offsets, wrong.examples, wrong.key);
    const std::string message =
        message_of<DataError>([&] { PackingFile(dataset.directory(), dataset.index(), kCapacity); });
    EXPECT_NE(message.find(wrong.expected), std::string::npos) << message << "\nexpected " << wrong.expected;
    EXPECT_EQ(message.find(directory_ / kName), 0u) << message;
    comm_.barrier();
    ensure_packing(comm_, dataset, kCapacity);
    expect_plan();
  }
}

TEST_F(PackingFileTest, ErrorsReachAllRanks) {
  const Dataset dataset(directory_.path());
  agreed_message_of(kExitUsage, [&] { ensure_packing(comm_, dataset, 0); });
}

}  // namespace
}  // namespace plumb
