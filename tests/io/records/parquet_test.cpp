#include "io/records/parquet.hpp"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "io/records/record_file.hpp"
#include "lib/base/check.hpp"
#include "tests/support/refusal.hpp"
#include "tests/support/temporary_directory.hpp"

namespace plumb {
namespace {

const std::string kSeeds = PLUMB_SOURCE_DIR "/tests/fuzz/seeds/parquet/";
const std::string kRows = PLUMB_SOURCE_DIR "/tests/io/records/parquet/";

std::vector<Record> read_all(const std::string& path) {
  RecordReader reader(path, index_records(path));
  std::vector<Record> records;
  while (std::optional<Record> record = reader.next()) records.push_back(std::move(*record));
  return records;
}

// The JSON Lines are what `datasets` reads of the same file: tests/io/records/make_parquet.py
TEST(Parquet, RowsAreThoseOfJsonLines) {
  for (const std::string name : {"conversations", "types", "pairs", "json"}) {
    const std::vector<Record> rows = read_all(kSeeds + "ok_" + name);
    const std::vector<Record> expected = read_all(kRows + name + ".jsonl");
    ASSERT_EQ(rows.size(), expected.size()) << name;
    for (size_t i = 0; i < rows.size(); ++i) {
      EXPECT_EQ(rows[i].object, expected[i].object) << name << ": row " << i;
      EXPECT_EQ(rows[i].object.dump(), expected[i].object.dump())
          << name << ": row " << i << ", with its order of keys";
    }
  }
}

TEST(Parquet, ReadsTheSameFromAnyStart) {
  const std::string path = kSeeds + "ok_conversations";  // row groups of 7 rows
  const std::vector<Record> rows = read_all(path);
  RecordReader reader(path, index_records(path));
  for (const int64_t start : {39, 0, 6, 7, 8, 20, 22, 22, 21, 35}) {
    reader.seek(start);
    for (int64_t i = start; i < std::min<int64_t>(start + 9, std::ssize(rows)); ++i) {
      const std::optional<Record> record = reader.next();
      ASSERT_TRUE(record);
      EXPECT_EQ(record->record, i);
      EXPECT_EQ(record->object, rows[static_cast<size_t>(i)].object) << i;
    }
  }
  reader.seek(40);
  EXPECT_FALSE(reader.next());
  reader.seek(3);
  EXPECT_EQ(reader.where(reader.next().value()), path + ": row 3");
}

TEST(Parquet, WhatJsonLacksAndDamageAreRefused) {
  const auto expect_refused = [](const std::string& name, const std::string& part) {
    const std::string message = refusal_of<DataError>([&] { read_all(kSeeds + name); });
    EXPECT_NE(message.find(part), std::string::npos) << name << ": got " << message;
    EXPECT_TRUE(message.starts_with(kSeeds + name)) << message;
  };
  expect_refused("bad_binary", ": column: image: expected text, a number");
  expect_refused("bad_time", ": column: at: expected text, a number");
  expect_refused("bad_same_name", ": column: expected names that differ, got \"text\" twice");
  expect_refused("bad_no_rows", "expected rows, got none");
  expect_refused("bad_not_utf8", ": row 0: byte 1: expected UTF-8");
  expect_refused("bad_footer", "expected Parquet, got other data");
  expect_refused("bad_page", "expected Parquet, got other data");
  const TemporaryDirectory directory;
  const std::string text = directory.write("a.parquet", "{}\n");
  EXPECT_NE(refusal_of<DataError>([&] { read_all(text); }).find("expected Parquet"), std::string::npos);
  EXPECT_THROW(read_all("/nonexistent/a.parquet"), InputOutputError);
}

}  // namespace
}  // namespace plumb
