#include "io/token_shard.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <functional>

#include "lib/base/check.hpp"
#include "tests/io/temporary_directory.hpp"
#include "tests/io/token_dataset.hpp"

namespace plumb {
namespace {

TokenRows made_rows(int64_t begin, int64_t end) {
  TokenRows rows;
  for (int64_t i = begin; i < end; ++i) {
    const MadeRow row = made_row(i);
    rows.add(row.tokens, row.loss_mask, 2 * i);
  }
  return rows;
}

/// The arrays of a shard, to be spoilt.
struct Parts {
  std::vector<int32_t> tokens = {10, 11, 12, 13, 14};
  std::vector<uint8_t> loss_mask = {0, 1, 0, 1, 1};
  std::vector<int64_t> offsets = {0, 2, 5};
  std::vector<int64_t> row_id = {3, 8};
  int64_t version = kTokenShardVersion;
  std::string kind = "sft";
};

template <class T>
void write_array(Hdf5File& file, const std::string& name, const std::vector<T>& values) {
  Hdf5Dataset dataset = file.create_dataset<T>(name, {64, -1});
  dataset.append(std::span<const T>(values));
  dataset.close();
}

std::string refusal(const std::function<void(Parts&)>& spoil, int64_t vocab_size = 0) {
  const TemporaryDirectory directory;
  Parts parts;
  spoil(parts);
  const std::string path = directory / "spoilt.h5";
  Hdf5File file = Hdf5File::create(path);
  write_array(file, "tokens", parts.tokens);
  write_array(file, "loss_mask", parts.loss_mask);
  write_array(file, "offsets", parts.offsets);
  write_array(file, "row_id", parts.row_id);
  file.set_attribute("format_version", parts.version);
  file.set_attribute("kind", parts.kind);
  file.close();
  try {
    const TokenShardReader reader(path, vocab_size);
    reader.check_offsets();
    reader.read(0, reader.num_rows());
  } catch (const DataError& error) {
    EXPECT_TRUE(std::string(error.what()).starts_with(path)) << error.what();
    return std::string(error.what()).substr(path.size());
  }
  return "accepted";
}

void expect_refused(const std::function<void(Parts&)>& spoil, const std::string& part, int64_t vocab_size = 0) {
  const std::string message = refusal(spoil, vocab_size);
  EXPECT_NE(message.find(part), std::string::npos) << message << "\nlacks " << part;
}

TEST(TokenShard, RowsReadBackFromAnyRange) {
  const TemporaryDirectory directory;
  const ShardEntry entry = write_made_shard(directory.path(), "a.h5", 0, 20'000);
  const TokenShardReader reader(directory / "a.h5", 1000);
  reader.check_offsets();
  EXPECT_EQ(reader.num_rows(), 20'000);
  EXPECT_EQ(reader.num_tokens(), entry.num_tokens);
  for (const auto& [begin, end] :
       {std::pair(0, 20'000), std::pair(0, 1), std::pair(4'095, 4'098), std::pair(19'999, 20'000), std::pair(7, 7)}) {
    EXPECT_EQ(reader.read(begin, end), made_rows(begin, end)) << begin << " to " << end;
  }
}

TEST(TokenShard, MayHaveNoRows) {
  const TemporaryDirectory directory;
  const ShardEntry entry = write_made_shard(directory.path(), "a.h5", 0, 0);
  EXPECT_EQ(entry.num_rows, 0);
  const TokenShardReader reader(directory / "a.h5");
  reader.check_offsets();
  EXPECT_EQ(reader.num_rows(), 0);
  EXPECT_EQ(reader.read(0, 0), TokenRows());
}

TEST(TokenShard, EqualRowsGiveEqualBytes) {
  const TemporaryDirectory directory;
  const ShardEntry a = write_made_shard(directory.path(), "a.h5", 0, 1000);
  EXPECT_EQ(a.sha256, write_made_shard(directory.path(), "b.h5", 0, 1000).sha256);
  EXPECT_NE(a.sha256, write_made_shard(directory.path(), "c.h5", 1, 1001).sha256);
}

TEST(TokenShard, ALongRowSpansChunks) {
  const TemporaryDirectory directory;
  TokenRows expected;
  {
    TokenShardWriter writer(directory / "a.h5");
    for (const size_t size : {1u, 300'000u, 2u}) {
      const std::vector<int32_t> tokens(size, static_cast<int32_t>(size % 1000));
      const std::vector<uint8_t> loss_mask(size, 1);
      writer.append(tokens, loss_mask, static_cast<int64_t>(expected.row_ids.size()));
      expected.add(tokens, loss_mask, expected.num_rows());
    }
    writer.finish();
  }
  EXPECT_EQ(TokenShardReader(directory / "a.h5").read(0, 3), expected);
}

TEST(TokenShard, NothingRemainsOfAWriterThatDidNotFinish) {
  const TemporaryDirectory directory;
  {
    TokenShardWriter writer(directory / "a.h5");
    const MadeRow row = made_row(5);
    writer.append(row.tokens, row.loss_mask, 0);
    EXPECT_FALSE(std::filesystem::exists(directory / "a.h5"));
    EXPECT_EQ(directory.num_entries(), 1u);
  }
  EXPECT_EQ(directory.num_entries(), 0u);
}

TEST(TokenShard, WhatIsNotAShardIsRefused) {
  EXPECT_EQ(refusal([](Parts&) {}, 15), "accepted");
  expect_refused([](Parts& p) { p.version = 2; }, "expected format version 1, got 2");
  expect_refused([](Parts& p) { p.kind = "pairs"; }, "expected rows of kind sft, got pairs");
  expect_refused([](Parts& p) { p.loss_mask.pop_back(); }, "expected a loss_mask for each of 5 tokens, got 4");
  expect_refused([](Parts& p) { p.row_id.push_back(9); }, "expected 4 offsets for 3 rows, got 3");
  expect_refused([](Parts& p) { p.offsets = {0, 2, 4}; }, "expected offsets from 0 to 5, got 0 to 4");
  expect_refused([](Parts& p) { p.offsets = {1, 2, 5}; }, "expected offsets from 0 to 5, got 1 to 5");
  expect_refused([](Parts& p) { p.offsets.clear(), p.row_id.clear(); }, "expected 1 offsets for 0 rows, got 0");
  expect_refused([](Parts& p) { p.offsets = {0, 0, 5}; }, "row 1: expected an offset in [1, 5], got 0");
  expect_refused([](Parts& p) { p.offsets = {0, -1, 5}; }, "row 1: expected an offset in [1, 5], got -1");
  expect_refused([](Parts& p) { p.offsets = {0, INT64_MAX, 5}; }, "row 1: expected an offset in [1, 5]");
  expect_refused([](Parts& p) { p.tokens[3] = -1; }, "row 1: token 1: expected an id in [0, 2^31), got -1");
  expect_refused([](Parts&) {}, "row 1: token 2: expected an id in [0, 14), got 14", 14);
  expect_refused([](Parts& p) { p.loss_mask[1] = 2; }, "row 0: token 1: expected a loss_mask of 0 or 1, got 2");
  expect_refused([](Parts& p) { p.row_id = {8, 8}; }, "row 1: expected ascending row ids, got 8");
  expect_refused([](Parts& p) { p.row_id = {-1, 8}; }, "row 0: expected ascending row ids, got -1");
}

TEST(TokenShard, ATruncatedFileIsRefusedAtEveryLength) {
  const TemporaryDirectory directory;
  write_made_shard(directory.path(), "a.h5", 0, 50);
  const std::string bytes = directory.read("a.h5");
  for (size_t size = 0; size < bytes.size(); size += bytes.size() / 211) {
    const std::string path = directory.write("b.h5", bytes.substr(0, size));
    EXPECT_THROW(TokenShardReader(path).read(0, 1), DataError) << "cut to " << size << " of " << bytes.size();
  }
}

/// Writes one byte in the middle of a file.
void poke(const std::string& path, size_t offset, char byte) {
  std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
  file.seekp(static_cast<std::streamoff>(offset)).put(byte);
}

// A flipped bit either is found, or lies where it changes no row.
TEST(TokenShard, AFlippedBitNeverChangesARow) {
  const TemporaryDirectory directory;
  write_made_shard(directory.path(), "a.h5", 0, 50);
  const std::string path = directory / "a.h5", bytes = directory.read("a.h5");
  const TokenRows expected = made_rows(0, 50);
  size_t num_found = 0;
  for (size_t i = 0; i < bytes.size(); ++i) {
    const bool is_empty_space = bytes[i] == 0 || bytes[i] == '\xff';
    if (is_empty_space && i % 97 != 0) continue;
    poke(path, i, static_cast<char>(bytes[i] ^ (1 << (i % 8))));
    try {
      const TokenShardReader reader(path);
      EXPECT_EQ(reader.num_rows(), 50) << "byte " << i;
      EXPECT_EQ(reader.read(0, reader.num_rows()), expected) << "byte " << i;
    } catch (const DataError& error) {
      ++num_found;
      EXPECT_TRUE(std::string(error.what()).starts_with(path)) << error.what();
    }
    poke(path, i, bytes[i]);
  }
  EXPECT_GT(num_found, 1000u);
}

}  // namespace
}  // namespace plumb
