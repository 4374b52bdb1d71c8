#include "io/dataset/dataset.hpp"

#include <gtest/gtest.h>

#include <filesystem>

#include "lib/base/check.hpp"
#include "tests/io/dataset/token_dataset.hpp"
#include "tests/support/refusal.hpp"
#include "tests/support/temporary_directory.hpp"

namespace plumb {
namespace {

void expect_made_row(const Dataset& dataset, int64_t i) {
  const TokenRows row = dataset.row(i);
  ASSERT_EQ(row.num_rows(), 1);
  EXPECT_EQ(row.tokens, made_row(i).tokens) << i;
  EXPECT_EQ(row.loss_mask, made_row(i).loss_mask) << i;
  EXPECT_EQ(row.row_ids.front(), 2 * i);
}

TEST(Dataset, RowsAreNumberedAcrossShards) {
  const TemporaryDirectory directory;
  write_made_dataset(directory.path(), {3, 0, 5, 1, 0});
  const Dataset dataset(directory.path(), 1000);
  ASSERT_EQ(dataset.num_rows(), 9);
  for (const int64_t i : {0, 2, 3, 7, 8, 1}) expect_made_row(dataset, i);
}

TEST(Dataset, RangesSpanShards) {
  const TemporaryDirectory directory;
  write_made_dataset(directory.path(), {3, 0, 5, 1});
  const Dataset dataset(directory.path());
  for (int64_t begin = 0; begin <= 9; ++begin) {
    for (int64_t end = begin; end <= 9; ++end) {
      TokenRows expected;
      for (int64_t i = begin; i < end; ++i) expected.add(made_row(i).tokens, made_row(i).loss_mask, 2 * i);
      EXPECT_EQ(dataset.rows(begin, end), expected) << begin << " to " << end;
    }
  }
}

TEST(Dataset, RangesOfPairsSpanShards) {
  const TemporaryDirectory directory;
  write_made_pair_dataset(directory.path(), {3, 0, 5, 1}, true);
  const Dataset dataset(directory.path());
  EXPECT_EQ(dataset.format(), (ShardFormat{"pairs", true}));
  for (int64_t begin = 0; begin < 9; ++begin) {
    for (int64_t end = begin + 1; end <= 9; ++end) {
      TokenRows expected;
      for (int64_t i = begin; i < end; ++i) add_made_pair(expected, i, true);
      EXPECT_EQ(dataset.rows(begin, end), expected) << begin << " to " << end;
    }
  }
}

TEST(Dataset, ShardsOfDifferentKindsAreRefused) {
  const TemporaryDirectory directory;
  DatasetIndex index = write_made_pair_dataset(directory.path(), {3, 3}, true);
  index.shards[1] = write_made_pair_shard(directory.path(), "other.h5", 3, 6, false);
  write_dataset_index(directory.path(), index);
  EXPECT_NE(message_of<DataError>([&] { Dataset(directory.path()); }).find("got pairs, without margins"),
            std::string::npos);
  index = write_made_pair_dataset(directory.path(), {3, 3}, true);
  index.kind = kSftKind;
  write_dataset_index(directory.path(), index);
  EXPECT_NE(message_of<DataError>([&] { Dataset(directory.path()); }).find("expected rows of kind sft"),
            std::string::npos);
}

TEST(Dataset, PackedRowsAreTheirExamplesEndToEnd) {
  constexpr int64_t kCapacity = 16;
  const TemporaryDirectory directory;
  const DatasetIndex index = write_made_dataset(directory.path(), {3, 0, 50, 1});
  Dataset dataset(directory.path());
  write_packing(dataset.directory(), dataset.index(), kCapacity, dataset.example_tokens(0, dataset.num_examples()));
  EXPECT_EQ(dataset.num_rows(), 54);
  EXPECT_EQ(dataset.examples_of_row(5), std::vector<int64_t>{5});
  dataset.use_packing(kCapacity);
  EXPECT_EQ(dataset.num_examples(), 54);
  ASSERT_LT(dataset.num_rows(), 35);
  TokenRows all;
  int64_t num_examples = 0, max_row_tokens = 0;
  for (int64_t i = 0; i < dataset.num_rows(); ++i) {
    TokenRows expected;
    for (const int64_t example : dataset.examples_of_row(i)) {
      expected.add(made_row(example).tokens, made_row(example).loss_mask, 2 * example);
      all.add(made_row(example).tokens, made_row(example).loss_mask, 2 * example);
      ++num_examples;
    }
    EXPECT_EQ(dataset.row(i), expected) << i;
    EXPECT_LE(expected.num_tokens(), kCapacity);
    max_row_tokens = std::max(max_row_tokens, expected.num_tokens());
  }
  EXPECT_EQ(dataset.rows(0, dataset.num_rows()), all);
  EXPECT_EQ(num_examples, 54);
  EXPECT_EQ(dataset.max_row_tokens(), max_row_tokens);
  EXPECT_DOUBLE_EQ(dataset.fill_share(),
                   static_cast<double>(index.num_tokens()) / static_cast<double>(dataset.num_rows() * kCapacity));
  EXPECT_EQ(dataset.examples(7, 8).tokens, made_row(7).tokens);
}

TEST(Dataset, PartsOfItsExamplesArePackedApart) {
  const TemporaryDirectory directory;
  DatasetIndex index = write_made_dataset(directory.path(), {3, 0, 50, 1});
  index.rows_of_files = {1, 3, 49, 1};
  write_dataset_index(directory.path(), index);
  Dataset dataset(directory.path());
  const std::vector<int64_t> parts = dataset.examples_of_files({2, 1, 1});
  EXPECT_EQ(parts, (std::vector<int64_t>{4, 49, 1}));
  EXPECT_EQ(dataset.rows_of_parts(parts), parts);
  EXPECT_THROW(dataset.examples_of_files({2, 1}), DataError);
  const PackingSetting setting(16, parts);
  write_packing(dataset.directory(), index, setting, dataset.example_tokens(0, 54));
  dataset.use_packing(setting);
  const std::vector<int64_t> rows = dataset.rows_of_parts(parts);
  ASSERT_EQ(rows[0] + rows[1] + rows[2], dataset.num_rows());
  EXPECT_EQ(rows[2], 1);
  EXPECT_LT(rows[1], 49);
  for (int64_t row = 0; row < dataset.num_rows(); ++row) {
    const std::vector<int64_t> examples = dataset.examples_of_row(row);
    const int64_t begin = row < rows[0] ? 0 : row < rows[0] + rows[1] ? 4 : 53;
    const int64_t end = row < rows[0] ? 4 : row < rows[0] + rows[1] ? 53 : 54;
    EXPECT_TRUE(examples.front() >= begin && examples.back() < end) << row;
  }
}

TEST(Dataset, LengthsOfExamplesSpanShards) {
  const TemporaryDirectory directory;
  write_made_dataset(directory.path(), {3, 0, 5, 1});
  const Dataset dataset(directory.path());
  std::vector<int64_t> expected;
  for (int64_t i = 2; i < 9; ++i) expected.push_back(std::ssize(made_row(i).tokens));
  EXPECT_EQ(dataset.example_tokens(2, 9), expected);
}

TEST(Dataset, ManyShardsAreNotAllOpenAtOnce) {
  const TemporaryDirectory directory;
  write_made_dataset(directory.path(), std::vector<int64_t>(50, 2));
  const Dataset dataset(directory.path());
  for (int64_t i = 0; i < 100; ++i) expect_made_row(dataset, i * 37 % 100);
  const auto is_shard = [](const std::filesystem::directory_entry& entry) {
    std::error_code ignored;
    return std::filesystem::read_symlink(entry.path(), ignored).extension() == ".h5";
  };
  const std::filesystem::directory_iterator open_files("/proc/self/fd");
  EXPECT_EQ(std::count_if(begin(open_files), end(open_files), is_shard), 32);
}

TEST(Dataset, ATokenizerLargerThanTheEmbeddingIsRefused) {
  const TemporaryDirectory directory;
  write_made_dataset(directory.path(), {3});
  const std::string message = message_of<DataError>([&] { Dataset(directory.path(), 999); });
  EXPECT_NE(message.find("below 999, the rows of the embedding, got 999"), std::string::npos) << message;
}

TEST(Dataset, ShardsThatAreNotThoseOfTheIndexAreRefused) {
  const TemporaryDirectory directory;
  DatasetIndex index = write_made_dataset(directory.path(), {300, 300});
  const std::string path = directory / "shard-1.h5", bytes = directory.read("shard-1.h5");

  directory.write("shard-1.h5", bytes.substr(0, bytes.size() - 1));
  EXPECT_NE(message_of<DataError>([&] { Dataset(directory.path()); }).find(path + ": expected"), std::string::npos);

  std::filesystem::remove(path);
  EXPECT_NE(message_of<DataError>([&] { Dataset(directory.path()); }).find("no such file"), std::string::npos);

  // another shard in its place
  write_made_shard(directory.path(), "shard-1.h5", 300, 599);
  index.shards[1].num_bytes = std::filesystem::file_size(path);
  write_dataset_index(directory.path(), index);
  EXPECT_NE(message_of<DataError>([&] { Dataset(directory.path()); }).find("expected 300 rows"), std::string::npos);
}

TEST(Dataset, HashesTellAChangedShard) {
  const TemporaryDirectory directory;
  const DatasetIndex index = write_made_dataset(directory.path(), {300});
  check_shard_hash(directory.path(), index.shards[0]);
  std::string bytes = directory.read("shard-0.h5");
  bytes.back() = static_cast<char>(bytes.back() ^ 1);
  directory.write("shard-0.h5", bytes);
  EXPECT_THROW(check_shard_hash(directory.path(), index.shards[0]), DataError);
}

TEST(Dataset, WithoutRowsIsRefused) {
  const TemporaryDirectory directory;
  write_made_dataset(directory.path(), {0, 0});
  EXPECT_THROW(Dataset(directory.path()), DataError);
}

}  // namespace
}  // namespace plumb
