#include "io/dataset/dataset_index.hpp"

#include <gtest/gtest.h>

#include <functional>

#include "lib/base/check.hpp"
#include "tests/support/refusal.hpp"
#include "tests/support/temporary_directory.hpp"

namespace plumb {
namespace {

using nlohmann::json;

DatasetIndex example() {
  DatasetIndex index;
  index.kind = "sft";
  index.key = "00ff";
  index.made_from = {{"max_length", 8}};
  index.shards = {{"a.h5", 2, 9, 100, std::string(64, '0')}, {"b.h5", 1, 4, 50, std::string(64, 'f')}};
  index.statistics.num_rows_read = 7;
  index.statistics.num_rows_kept = 3;
  index.statistics.num_tokens = 13;
  index.statistics.num_trained_tokens = 6;
  index.statistics.num_rows_ending_in_trained_eos = 2;
  index.statistics.max_row_tokens = 5;
  index.statistics.max_token_id = 77;
  index.statistics.length_histogram[2] = 3;
  for (int line = 1; line <= 4; ++line) index.statistics.dropped_empty.add("x.csv:" + std::to_string(line));
  index.statistics.dropped_identical_pair.add("x.csv:6");
  index.statistics.dropped_pair_too_long.add("x.csv:7");
  index.statistics.duplicate_rows.add("x.csv:8");
  return index;
}

void expect_refused(const std::function<void(json&)>& corrupt, const std::string& part) {
  json object = json::parse(example().to_text());
  corrupt(object);
  const std::string message = message_of<DataError>([&] { DatasetIndex::from_text(object.dump(), "dir/index.json"); });
  EXPECT_TRUE(message.starts_with("dir/index.json")) << message;
  EXPECT_NE(message.find(part), std::string::npos) << message << "\nlacks " << part;
}

TEST(DatasetIndex, ReadsBackWhatItWrote) {
  EXPECT_EQ(DatasetIndex::from_text(example().to_text(), "x"), example());
  const TemporaryDirectory directory;
  write_dataset_index(directory.path(), example());
  EXPECT_EQ(read_dataset_index(directory.path()), example());
  EXPECT_EQ(directory.num_entries(), 1u);
}

TEST(DatasetIndex, SaysHowManyRowsEndInATrainedEos) {
  EXPECT_NEAR(json::parse(example().to_text())["statistics"]["share_ending_in_trained_eos"].get<double>(), 2.0 / 3,
              1e-12);
}

TEST(DatasetIndex, PathsNeedNotBeUtf8) {
  DatasetIndex index = example();
  index.statistics.prompt_not_prefix.add("\xff.csv:3");
  EXPECT_EQ(DatasetIndex::from_text(index.to_text(), "x").statistics.prompt_not_prefix.num_rows, 1);
}

TEST(DatasetIndex, WhatItCannotHaveWrittenIsRefused) {
  expect_refused([](json& o) { o["format_version"] = 1; }, "expected format version 2, got 1");
  expect_refused([](json& o) { o.erase("format_version"); }, "format_version: expected an integer, got null");
  expect_refused([](json& o) { o["kind"] = "other"; }, "expected kind sft or pairs, got 'other'");
  expect_refused([](json& o) { o["statistics"]["dropped"].erase("identical_pair"); }, "identical_pair");
  expect_refused([](json& o) { o["statistics"] = 3; }, "expected an object");
  expect_refused([](json& o) { o["shards"] = json::array(); }, "shards, got 0");
  expect_refused([](json& o) { o["shards"][0]["rows"] = 1; }, "totals of all shards");
  expect_refused([](json& o) { o["shards"][0]["tokens"] = -1; }, "tokens: expected a count of at least 0, got -1");
  expect_refused([](json& o) { o["shards"][0]["rows"] = UINT64_MAX; }, "rows: expected a count");
  expect_refused([](json& o) { o["shards"][0]["rows"] = 1.5; }, "rows: expected an integer");
  expect_refused([](json& o) { o["shards"][1]["sha256"] = "abc"; }, "expected a sha256 of 64 digits, got 'abc'");
  expect_refused([](json& o) { o["statistics"]["length_histogram_by_power_of_two"].push_back(0); }, "40 bins");
  for (const char* name : {"../a.h5", "/etc/passwd", "", ".", "a/b"}) {
    expect_refused([&](json& o) { o["shards"][0]["file"] = name; }, "expected the name of a file beside it");
  }
  EXPECT_THROW(DatasetIndex::from_text("{", "x"), DataError);
  EXPECT_THROW(DatasetIndex::from_text("[]", "x"), DataError);
}

TEST(DatasetIndex, MissingIndexIsAnInputOutputError) {
  const TemporaryDirectory directory;
  EXPECT_THROW(read_dataset_index(directory.path()), InputOutputError);
}

TEST(PrepareStatistics, SumsOfPartsAreThoseOfTheWhole) {
  PrepareStatistics sum = example().statistics, later = example().statistics;
  later.max_row_tokens = 3;
  later.max_token_id = 99;
  sum.add(later);
  EXPECT_EQ(sum.num_rows_read, 14);
  EXPECT_EQ(sum.num_tokens, 26);
  EXPECT_EQ(sum.max_row_tokens, 5);
  EXPECT_EQ(sum.max_token_id, 99);
  EXPECT_EQ(sum.length_histogram[2], 6);
  EXPECT_EQ(sum.dropped_empty.num_rows, 8);
  EXPECT_EQ(sum.dropped_identical_pair.num_rows, 2);
  EXPECT_EQ(sum.dropped_pair_too_long.num_rows, 2);
  EXPECT_EQ(sum.duplicate_rows.num_rows, 2);
  EXPECT_EQ(sum.dropped_empty.first_places[4], "x.csv:1");
}

TEST(RowTally, KeepsTheFirstTwentyPlaces) {
  RowTally tally, later;
  for (int i = 0; i < 15; ++i) tally.add("a:" + std::to_string(i)), later.add("b:" + std::to_string(i));
  tally.add(later);
  EXPECT_EQ(tally.num_rows, 30);
  ASSERT_EQ(tally.first_places.size(), 20u);
  EXPECT_EQ(tally.first_places[14], "a:14");
  EXPECT_EQ(tally.first_places[19], "b:4");
}

}  // namespace
}  // namespace plumb
