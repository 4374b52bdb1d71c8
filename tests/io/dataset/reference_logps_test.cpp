// Runs on any number of ranks; what is expected does not depend on it.
#include "io/dataset/reference_logps.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <optional>

#include "io/dataset/batch_stream.hpp"
#include "tests/io/dataset/token_dataset.hpp"
#include "tests/support/refusal.hpp"
#include "tests/support/shared_directory.hpp"

namespace plumb {
namespace {

constexpr int64_t kNumExamples = 500;
constexpr const char* kModel = "0123abcd-float32";
constexpr const char* kName = "reference_logps-0123abcd-float32.h5";

ExampleLogps made_logps(int64_t i) {
  const auto x = static_cast<double>(i);
  return {i, {-x / 3, -x / 7}, {-x - 0.25, 0}};
}

class ReferenceLogpsTest : public testing::Test {
 protected:
  ReferenceLogpsTest() : directory_(comm_) {
    comm_.run_on_rank0([&] { write_made_dataset(directory_.path(), {200, 0, 300}); });
    dataset_.emplace(directory_.path());
  }

  /// This rank's examples, in no order that a file would have.
  std::vector<ExampleLogps> own_values() const {
    std::vector<ExampleLogps> values;
    for (int64_t k = 0; k < kNumExamples; ++k) {
      if (k % comm_.size() == comm_.rank()) values.push_back(made_logps(k * 137 % kNumExamples));
    }
    return values;
  }
  void write(std::vector<ExampleLogps> values, int64_t piece_examples = 64 * 1024) {
    write_reference_logps(comm_, *dataset_, kModel, std::move(values), piece_examples);
  }
  void expect_values() {
    const ReferenceLogps logps(*dataset_, kModel);
    EXPECT_EQ(logps.num_examples(), kNumExamples);
    for (int64_t i = 0; i < kNumExamples; ++i) {
      const std::vector<SequenceLogps> read = logps.read(i, i + 1);
      EXPECT_EQ(read, (std::vector{made_logps(i).chosen, made_logps(i).rejected})) << i;
    }
    comm_.barrier();
  }

  Communicator comm_;
  SharedDirectory directory_;
  std::optional<Dataset> dataset_;
};

TEST_F(ReferenceLogpsTest, EveryRankReadsWhatAnyRankComputed) {
  std::string first_bytes;
  for (const int64_t piece : {64 * 1024, 1, 7, 500, 499}) {
    write(own_values(), piece);
    expect_values();
    const std::string bytes = directory_.read(kName);
    if (first_bytes.empty()) first_bytes = bytes;
    EXPECT_EQ(bytes.size(), first_bytes.size());
    EXPECT_EQ(directory_.num_entries(), 5);  // index, shards and the values: no temporary file
  }
  EXPECT_EQ(ReferenceLogps(*dataset_, kModel).read(0, kNumExamples).size(), 2u * kNumExamples);
  EXPECT_TRUE(has_reference_logps(comm_, *dataset_, kModel));
  EXPECT_FALSE(has_reference_logps(comm_, *dataset_, "another"));
  EXPECT_THROW(ReferenceLogps(*dataset_, "another"), InputOutputError);
}

TEST_F(ReferenceLogpsTest, IncompleteOrWrongValuesLeaveNothing) {
  const bool is_last = comm_.rank() == comm_.size() - 1;
  const auto expect_refused = [&](ExitCode code, const std::string& expected, const auto& corrupt) {
    std::vector<ExampleLogps> values = own_values();
    if (is_last) corrupt(values);
    const std::string message = agreed_message_of(code, [&] { write(values, 100); });
    EXPECT_NE(message.find(expected), std::string::npos) << message;
    EXPECT_EQ(directory_.num_entries(), 4);
  };
  expect_refused(kExitInternal, "every example", [](auto& values) { values.pop_back(); });
  expect_refused(kExitInternal, "every example", [](auto& values) { values.push_back(values.front()); });
  expect_refused(kExitInternal, "examples of the dataset", [](auto& values) { values[0].example = kNumExamples; });
  expect_refused(kExitInternal, "finite", [](auto& values) { values[3].rejected.tail = std::nan(""); });
  expect_refused(kExitInternal, "finite",
                 [](auto& values) { values[3].chosen.shared = -std::numeric_limits<double>::infinity(); });
}

TEST_F(ReferenceLogpsTest, DamagedValuesAreNotThere) {
  write(own_values());
  const std::string bytes = directory_.read(kName);
  // the values themselves: behind what the library keeps in front
  std::string damaged = bytes;
  const double needle = made_logps(321).chosen.shared;
  const size_t at = bytes.find(std::string(reinterpret_cast<const char*>(&needle), sizeof needle));
  damaged.at(at) = static_cast<char>(damaged[at] ^ 1);
  directory_.write(kName, damaged);
  EXPECT_FALSE(has_reference_logps(comm_, *dataset_, kModel));
  EXPECT_THROW(ReferenceLogps(*dataset_, kModel).read(321, 322), DataError);
  comm_.barrier();
  write(own_values());  // over the damaged one
  EXPECT_TRUE(has_reference_logps(comm_, *dataset_, kModel));
  expect_values();
}

TEST_F(ReferenceLogpsTest, ValuesThatAreNotFiniteOrOfOtherDataAreRefused) {
  const auto write_file = [&](const std::string& key, int64_t num_values) {
    comm_.run_on_rank0([&] {
      std::filesystem::remove(directory_ / kName);
      Hdf5File file = Hdf5File::create(directory_ / kName);
      file.set_attribute("format_version", 1);
      file.set_attribute("kind", "reference_logps");
      file.set_attribute("dataset_key", key);
      file.set_attribute("model", kModel);
      std::vector<double> values(num_values, -1.0);
      values[4 * 11 + 2] = std::nan("");
      Hdf5Dataset array = file.create_dataset<double>("logps", {512, 0});
      array.append(std::span<const double>(values));
      array.close();
      file.close();
    });
  };
  write_file("made", 4 * kNumExamples);
  const ReferenceLogps logps(*dataset_, kModel);
  EXPECT_EQ(logps.read(10, 11).size(), 2u);
  EXPECT_NE(message_of<DataError>([&] { logps.read(10, 12); }).find("example 11"), std::string::npos);
  EXPECT_FALSE(has_reference_logps(comm_, *dataset_, kModel));
  write_file("made", 4 * kNumExamples - 2);
  EXPECT_NE(message_of<DataError>([&] { ReferenceLogps(*dataset_, kModel); }).find("got 1998"), std::string::npos);
  comm_.barrier();
  write_file("other", 4 * kNumExamples);
  EXPECT_NE(message_of<DataError>([&] { ReferenceLogps(*dataset_, kModel); }).find("key"), std::string::npos);
}

TEST_F(ReferenceLogpsTest, MicroBatchesCarryThoseOfTheirExamples) {
  write(own_values());
  const ReferenceLogps logps(*dataset_, kModel);
  ensure_packing(comm_, *dataset_, 40);
  for (const bool packs : {false, true}) {
    if (packs) dataset_->use_packing(40);
    SamplerOptions options;
    options.rows_per_micro_batch = 3;
    BatchStream stream(*dataset_, options, comm_.rank(), comm_.size(), 0, 5, &logps);
    while (stream.has_next()) {
      const MicroBatch batch = stream.next().front();
      EXPECT_TRUE(packs || batch.row_ids.size() == 3);
      std::vector<SequenceLogps> expected;
      for (const int64_t row_id : batch.row_ids) {
        expected.push_back(made_logps(row_id / 2).chosen);
        expected.push_back(made_logps(row_id / 2).rejected);
      }
      EXPECT_EQ(batch.reference_logps, expected);
    }
  }
}

}  // namespace
}  // namespace plumb
