#include "io/dataset/token_shard.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <optional>

#include "lib/base/check.hpp"
#include "tests/io/dataset/token_dataset.hpp"
#include "tests/support/refusal.hpp"
#include "tests/support/temporary_directory.hpp"

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

/// The arrays of a shard, to be damaged.
struct Parts {
  std::vector<int32_t> tokens = {10, 11, 12, 13, 14};
  std::vector<uint8_t> loss_mask = {0, 1, 0, 1, 1};
  std::vector<int64_t> offsets = {0, 2, 5};
  std::vector<int64_t> row_id = {3, 8};
  int64_t version = kTokenShardVersion;
  std::string kind = "sft";
  std::optional<std::vector<int64_t>> prompt_length;
  std::optional<std::vector<double>> margin;
  std::optional<int64_t> has_margins;
};

/// Two pairs with prompts of 1 and 0 tokens.
Parts pair_parts() {
  Parts parts;
  parts.tokens = {10, 11, 10, 12, 13, 14, 15, 16};
  parts.loss_mask = {0, 1, 0, 1, 1, 1, 1, 1};
  parts.offsets = {0, 2, 5, 6, 8};
  parts.prompt_length = std::vector<int64_t>{1, 0};
  parts.margin = std::vector<double>{0.5, -2};
  parts.has_margins = 1;
  parts.kind = "pairs";
  return parts;
}

template <class T>
void write_array(Hdf5File& file, const std::string& name, const std::vector<T>& values) {
  Hdf5Dataset dataset = file.create_dataset<T>(name, {64, -1});
  dataset.append(std::span<const T>(values));
  dataset.close();
}

std::string refusal(const std::function<void(Parts&)>& corrupt, int64_t vocab_size = 0, Parts parts = {}) {
  const TemporaryDirectory directory;
  corrupt(parts);
  const std::string path = directory / "damaged.h5";
  Hdf5File file = Hdf5File::create(path);
  write_array(file, "tokens", parts.tokens);
  write_array(file, "loss_mask", parts.loss_mask);
  write_array(file, "offsets", parts.offsets);
  write_array(file, "row_id", parts.row_id);
  if (parts.prompt_length) write_array(file, "prompt_length", *parts.prompt_length);
  if (parts.margin) write_array(file, "margin", *parts.margin);
  if (parts.has_margins) file.set_attribute("has_margins", *parts.has_margins);
  file.set_attribute("format_version", parts.version);
  file.set_attribute("kind", parts.kind);
  file.close();
  const std::string message = refusal_of<DataError>([&] {
    const TokenShardReader reader(path, vocab_size);
    reader.check_offsets();
    reader.read(0, reader.num_rows());
  });
  if (message == kAccepted) return message;
  EXPECT_TRUE(message.starts_with(path)) << message;
  return message.substr(std::min(message.size(), path.size()));
}

void expect_refused(const std::function<void(Parts&)>& corrupt, const std::string& part, int64_t vocab_size = 0) {
  const std::string message = refusal(corrupt, vocab_size);
  EXPECT_NE(message.find(part), std::string::npos) << message << "\nlacks " << part;
}

void expect_pairs_refused(const std::function<void(Parts&)>& corrupt, const std::string& part) {
  const std::string message = refusal(corrupt, 0, pair_parts());
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

TEST(TokenShard, PairsReadBackFromAnyRange) {
  const TemporaryDirectory directory;
  for (const bool has_margins : {false, true}) {
    const std::string path = directory / fmt::format("{}.h5", has_margins);
    const ShardEntry entry =
        write_made_pair_shard(directory.path(), fmt::format("{}.h5", has_margins), 0, 9'000, has_margins);
    const TokenShardReader reader(path, 1000);
    reader.check_offsets();
    EXPECT_EQ(reader.format(), (ShardFormat{"pairs", has_margins}));
    EXPECT_EQ(reader.num_rows(), 9'000);
    EXPECT_EQ(reader.num_tokens(), entry.num_tokens);
    for (const auto& [begin, end] : {std::pair(0, 9'000), std::pair(0, 1), std::pair(4'095, 4'098), std::pair(7, 7)}) {
      TokenRows expected;
      expected.documents_per_row = 2;
      for (int64_t i = begin; i < end; ++i) add_made_pair(expected, i, has_margins);
      EXPECT_EQ(reader.read(begin, end), expected) << begin << " to " << end;
    }
  }
}

TEST(TokenShard, APairIsTwoDocumentsWithOnePrompt) {
  TokenRows rows;
  rows.add_pair(std::vector<int32_t>{7, 8, 9}, std::vector<int32_t>{7, 8, 5, 6}, 2, 0.5, 3);
  EXPECT_EQ(rows.tokens, (std::vector<int32_t>{7, 8, 9, 7, 8, 5, 6}));
  EXPECT_EQ(rows.loss_mask, (std::vector<uint8_t>{0, 0, 1, 0, 0, 1, 1}));
  EXPECT_EQ(rows.offsets, (std::vector<int64_t>{0, 3, 7}));
  EXPECT_EQ(rows.row_ids, std::vector<int64_t>{3});
  EXPECT_EQ(rows.prompt_lengths, std::vector<int64_t>{2});
  EXPECT_EQ(rows.margins, std::vector<double>{0.5});
  EXPECT_EQ(rows.num_documents(), 2);
}

TEST(TokenShard, WhatAreNotPairsIsRefused) {
  EXPECT_EQ(refusal([](Parts&) {}, 17, pair_parts()), "accepted");
  expect_pairs_refused([](Parts& p) { p.has_margins = 2; }, "has_margins: expected 0 or 1, got 2");
  expect_pairs_refused([](Parts& p) { p.prompt_length.reset(); }, "prompt_length");
  expect_pairs_refused([](Parts& p) { p.margin.reset(); }, "margin");
  expect_pairs_refused([](Parts& p) { p.prompt_length->pop_back(); }, "a prompt_length for each of 2 rows, got 1");
  expect_pairs_refused([](Parts& p) { p.margin->push_back(1); }, "a margin for each of 2 rows, got 3");
  expect_pairs_refused([](Parts& p) { p.offsets = {0, 5, 8}; }, "expected 5 offsets for 2 rows, got 3");
  expect_pairs_refused([](Parts& p) { p.offsets = {0, 2, 5, 5, 8}; }, "row 1: expected an offset in [6, 8], got 5");
  expect_pairs_refused([](Parts& p) { p.offsets = {0, 2, 5, 6, 7}; }, "expected offsets from 0 to 8, got 0 to 7");
  expect_pairs_refused([](Parts& p) { p.tokens[6] = -1; }, "row 1: rejected: token 0: expected an id");
  expect_pairs_refused(
      [](Parts& p) {
        p.prompt_length = {{2, 0}};
      },
      "row 0: expected a prompt_length in [0, 2), got 2");
  expect_pairs_refused([](Parts& p) { p.prompt_length = {{-1, 0}}; }, "row 0: expected a prompt_length in [0, 2)");
  expect_pairs_refused([](Parts& p) { p.prompt_length = {{1, INT64_MAX}}; }, "row 1: expected a prompt_length");
  expect_pairs_refused([](Parts& p) { p.tokens[2] = 11; }, "row 0: expected the same prompt of 1 tokens");
  expect_pairs_refused([](Parts& p) { p.loss_mask[2] = 1; },
                       "row 0: expected a loss_mask of all tokens after the prompt");
  expect_pairs_refused([](Parts& p) { p.loss_mask[7] = 0; },
                       "row 1: expected a loss_mask of all tokens after the prompt");
  expect_pairs_refused([](Parts& p) { p.margin->at(1) = NAN; }, "row 1: expected a finite margin, got nan");
  expect_pairs_refused([](Parts& p) { p.row_id = {8, 8}; }, "row 1: expected ascending row ids, got 8");
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
  expect_refused([](Parts& p) { p.kind = "other"; }, "expected rows of kind sft or pairs, got other");
  expect_refused([](Parts& p) { p.kind = "pairs"; }, "cannot read has_margins");
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

/// A flipped bit either is found, or is where it changes no row. `path`: a shard of 50 rows.
void expect_flips_found(const std::string& path, const std::string& bytes) {
  const TokenRows expected = TokenShardReader(path).read(0, 50);
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

TEST(TokenShard, AFlippedBitNeverChangesARow) {
  const TemporaryDirectory directory;
  write_made_shard(directory.path(), "a.h5", 0, 50);
  ASSERT_EQ(TokenShardReader(directory / "a.h5").read(0, 50), made_rows(0, 50));
  expect_flips_found(directory / "a.h5", directory.read("a.h5"));
}

TEST(TokenShard, AFlippedBitNeverChangesAPair) {
  const TemporaryDirectory directory;
  write_made_pair_shard(directory.path(), "a.h5", 0, 50, true);
  expect_flips_found(directory / "a.h5", directory.read("a.h5"));
}

}  // namespace
}  // namespace plumb
