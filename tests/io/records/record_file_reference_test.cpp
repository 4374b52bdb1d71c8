// The difficult tables of csv-spectrum, and the rows of the reference data sets.
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <string>

#include "io/records/record_file.hpp"
#include "tests/support/reference.hpp"

namespace plumb {
namespace {

using nlohmann::json;

json read_table(const std::filesystem::path& path) {
  RecordReader reader(path.string(), index_records(path.string()));
  json rows = json::array();
  while (const std::optional<Record> record = reader.next()) rows.push_back(json(record->object));
  return rows;
}

TEST(RecordFileReference, CsvSpectrumIsReadAsExpected) {
  SKIP_WITHOUT_REFERENCE_RECORDS();
  const std::filesystem::path folder = test::reference_file("csv");
  int num_files = 0;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    const std::filesystem::path path = entry.path();
    if (path.extension() != ".csv") continue;
    SCOPED_TRACE(path.filename().string());
    ++num_files;
    std::ifstream stream(folder / "expected" / (path.stem().string() + ".json"));
    const json expected = json::parse(stream);
    const json rows = read_table(path);
    // one expectation of the suite is a single object with a phone number that differs from its table
    if (expected.is_object()) {
      ASSERT_EQ(rows.size(), 1u);
      for (const char* column : {"Location Coordinates", "Cities", "Counties"}) {
        EXPECT_EQ(rows[0].at(column), expected.at(column));
      }
    } else {
      EXPECT_EQ(rows, expected);
    }
  }
  EXPECT_GE(num_files, 12);
}

TEST(RecordFileReference, DataSetsHaveTheirRows) {
  SKIP_WITHOUT_REFERENCE_RECORDS();
  const std::filesystem::path folder = test::reference_file("data");
  EXPECT_EQ(index_records((folder / "sft_columns.csv").string()).num_records, 2000);
  EXPECT_EQ(index_records((folder / "sft_alpaca.jsonl").string()).num_records, 999);
  EXPECT_EQ(index_records((folder / "pref_hh.jsonl").string()).num_records, 2308);
  const json rows = read_table(folder / "sft_columns.csv");
  for (const json& row : rows) EXPECT_EQ(row.at("system"), "You solve problems step by step.");
  EXPECT_EQ(read_table(folder / "sft_messages.jsonl").size(), 999u);
}

}  // namespace
}  // namespace plumb
