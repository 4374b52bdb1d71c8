#include "io/records/json_records.hpp"

#include <gtest/gtest.h>

#include <string>

#include "lib/base/check.hpp"

namespace plumb {
namespace {

using nlohmann::ordered_json;

TEST(JsonObjectEnd, IsTheSameForAnySplitOfTheInput) {
  const std::string object = R"({"a\\": "}\"]\\", "b": [{}, [{"c": "\\\\\"{"}]]})";
  const std::string bytes = object + ", {}]";
  for (size_t step = 1; step <= bytes.size(); ++step) {
    JsonObjectEnd end;
    size_t found = 0;
    for (size_t seen = step; found == 0 && seen < bytes.size() + step; seen += step) {
      found = end.find(std::string_view(bytes).substr(0, seen));
    }
    EXPECT_EQ(found, object.size()) << "in steps of " << step;
  }
}

TEST(ParseJsonObject, MatchesTheLibraryParser) {
  const std::string text = R"({"a": [1, -2, 3.5, 18446744073709551615, true, false, null, "\u00e9\n"],
                               "b": {"c": {}, "d": [[], {"e": "f"}]}, "": "empty key"})";
  EXPECT_EQ(parse_json_object(text, {"a.jsonl", 1, 0}), ordered_json::parse(text));
}

TEST(ParseJsonObject, QuotesOnlyAFewBytesOfABadRecord) {
  const std::string text = "{\"a\" " + std::string(100, ' ') + "\"" + std::string(100'000, 'x') + "\"}";
  try {
    parse_json_object(text, {"a.jsonl", 3, 2});
    FAIL() << "not refused";
  } catch (const DataError& error) {
    EXPECT_TRUE(std::string_view(error.what()).starts_with("a.jsonl:3: row 2: column ")) << error.what();
    EXPECT_LT(std::string_view(error.what()).size(), 300u);
  }
}

}  // namespace
}  // namespace plumb
