#include "io/records/csv.hpp"

#include <gtest/gtest.h>

#include <string>

#include "lib/base/check.hpp"

namespace plumb {
namespace {

std::vector<std::string> split(std::string_view record, char delimiter = ',') {
  std::vector<std::string> cells = {"left", "from", "the", "last", "record"};
  split_csv_record(record, delimiter, {"a.csv", 1, 0}, cells);
  return cells;
}

TEST(CsvRecordEnd, IsTheSameForAnySplitOfTheInput) {
  const std::string record = "a\"b,\"c\"\"d\n\"\"\"\"\n\",\"\",e\r\n";
  const std::string bytes = record + "next,record\n";
  for (size_t step = 1; step <= bytes.size(); ++step) {
    CsvRecordEnd end(',');
    size_t found = 0;
    for (size_t seen = step; found == 0 && seen < bytes.size() + step; seen += step) {
      found = end.find(std::string_view(bytes).substr(0, seen));
    }
    EXPECT_EQ(found, record.size()) << "in steps of " << step;
  }
}

TEST(CsvRecordEnd, LocatesTheOpenQuote) {
  CsvRecordEnd end(',');
  EXPECT_EQ(end.find("\"a\",b,\"c\n"), 0u);
  EXPECT_TRUE(end.is_in_quotes());
  EXPECT_EQ(end.quote_begin(), 6u);
  end.reset();
  EXPECT_EQ(end.find("a\n"), 2u);
  EXPECT_FALSE(end.is_in_quotes());
}

TEST(CsvCells, AreUnquoted) {
  EXPECT_EQ(split("a,,\"b,\"\"c\"\"\""), (std::vector<std::string>{"a", "", "b,\"c\""}));
  EXPECT_EQ(split(""), std::vector<std::string>{""});
  EXPECT_EQ(split(","), (std::vector<std::string>{"", ""}));
  EXPECT_EQ(split("\"\",\"\""), (std::vector<std::string>{"", ""}));
  EXPECT_EQ(split("a,b\tc", '\t'), (std::vector<std::string>{"a,b", "c"}));
}

TEST(CsvCells, KeepSpacesAndQuotesInside) {
  EXPECT_EQ(split(" a , \"b\""), (std::vector<std::string>{" a ", " \"b\""}));
}

TEST(CsvCells, RefuseTextAfterAClosingQuote) {
  EXPECT_THROW(split("\"a\"b"), DataError);
  EXPECT_THROW(split("\"a\" ,b"), DataError);
  EXPECT_THROW(split("a,\"b"), DataError);
}

}  // namespace
}  // namespace plumb
