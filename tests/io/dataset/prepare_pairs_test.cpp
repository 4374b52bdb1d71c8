// Pairs of rows; on any number of ranks, what is expected does not depend on it.
#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "io/dataset/prepare.hpp"
#include "tests/io/dataset/prepare_test.hpp"

namespace plumb {
namespace {

using PreparePairsTest = PrepareTest;

/// Pair i is "p", two digits, and answers of 1 + i % 4 and of 2 letters.
std::string numbered_pairs(int begin, int end) {
  std::string text;
  for (int i = begin; i < end; ++i) {
    text += fmt::format(R"({{"prompt": "p{:02}", "chosen": "{}", "rejected": "rr", "margin": {}.5}})", i,
                        std::string(1 + i % 4, 'c'), i);
    text += "\n";
  }
  return text;
}

TokenRows expected_numbered_pairs(int end, size_t max_length) {
  const auto ids_of = [&](const std::string& text) {
    std::vector<int32_t> ids;
    for (const char c : text) ids.push_back(byte_id(c));
    ids.push_back(kEosId);
    ids.resize(std::min(ids.size(), max_length));
    return ids;
  };
  TokenRows rows;
  for (int i = 0; i < end; ++i) {
    const std::string prompt = fmt::format("p{:02}", i);
    rows.add_pair(ids_of(prompt + std::string(1 + i % 4, 'c')), ids_of(prompt + "rr"), 3, i + 0.5, i);
  }
  return rows;
}

TEST_F(PreparePairsTest, PairsComeInOrderWhoeverTokenizedThem) {
  options_.use = RowUse::kPreference;
  options_.files = {write("a.jsonl", numbered_pairs(0, 7)), write("b.jsonl", numbered_pairs(7, 20))};
  const DatasetIndex index = prepare();
  EXPECT_EQ(index.kind, kPairsKind);
  EXPECT_EQ(rows_of(index), expected_numbered_pairs(20, 99));
  EXPECT_EQ(index.num_rows(), 20);
  EXPECT_EQ(index.statistics.num_rows_ending_in_trained_eos, 20);
  EXPECT_EQ(index.statistics.num_trained_tokens, index.num_tokens() - 20 * 2 * 3);
  EXPECT_EQ(index.statistics.max_row_tokens, 3 + 4 + 1 + 3 + 2 + 1);
  EXPECT_EQ(index.statistics.duplicate_rows.num_rows, 0);
  EXPECT_EQ(prepare(), index);
  EXPECT_EQ(num_results(), 1u);
}

TEST_F(PreparePairsTest, LongPairsAreCutOffOrDropped) {
  options_.use = RowUse::kPreference;
  options_.files = {write("a.jsonl", numbered_pairs(0, 20))};
  options_.pair.max_length = 6;
  const DatasetIndex cut = prepare();
  EXPECT_EQ(rows_of(cut), expected_numbered_pairs(20, 6));
  EXPECT_EQ(cut.statistics.num_rows_truncated, 10);
  EXPECT_EQ(cut.statistics.num_rows_ending_in_trained_eos, 10);
  options_.pair.drops_long_pairs = true;
  const DatasetIndex dropped = prepare();
  EXPECT_EQ(dropped.num_rows(), 10);
  EXPECT_EQ(dropped.statistics.dropped_pair_too_long.num_rows, 10);
  EXPECT_EQ(dropped.statistics.dropped_pair_too_long.first_places.front(), at("a.jsonl") + ":3");
  EXPECT_EQ(dropped.statistics.num_rows_truncated, 0);
  options_.pair.drops_long_pairs = false;
  options_.pair.max_length = 3;
  EXPECT_NE(refusal(kExitData).find("kept none of 20; 20 with a prompt of max_length"), std::string::npos);
}

TEST_F(PreparePairsTest, PairsThatTeachNothingAreDroppedAndRepeatedOnesCounted) {
  options_.use = RowUse::kPreference;
  options_.pair.max_length = 8;
  options_.files = {write("a.csv",
                          "prompt,chosen,rejected\n"
                          "p,a,b\n"
                          "p,a,a\n"         // 3: the same twice
                          "p,,b\n"          // 4: an empty answer
                          "pppppppp,a,b\n"  // 5: no place for one
                          "p,b,a\n"
                          "p,a,b\n"  // 7: said before
                          "p,a,a\n"),
                    write("b.csv", "prompt,chosen,rejected\nq,a,b\np,a,b\n")};
  const DatasetIndex index = prepare();
  const PrepareStatistics& statistics = index.statistics;
  const auto places = [&](const char* file, const std::vector<int>& lines) {
    std::vector<std::string> all;
    for (const int line : lines) all.push_back(fmt::format("{}:{}", at(file), line));
    return all;
  };
  EXPECT_EQ(statistics.num_rows_read, 9);
  EXPECT_EQ(statistics.num_rows_kept, 5);
  EXPECT_EQ(statistics.dropped_identical_pair.first_places, places("a.csv", {3, 8}));
  EXPECT_EQ(statistics.dropped_empty_completion.first_places, places("a.csv", {4}));
  EXPECT_EQ(statistics.dropped_prompt_too_long.first_places, places("a.csv", {5}));
  EXPECT_EQ(statistics.duplicate_rows.num_rows, 2);
  EXPECT_EQ(statistics.duplicate_rows.first_places, (std::vector<std::string>{at("a.csv") + ":7", at("b.csv") + ":3"}));
  EXPECT_TRUE(rows_of(index).margins.empty());
}

TEST_F(PreparePairsTest, PairsThatTheCutMakesEqualAreDropped) {
  options_.use = RowUse::kPreference;
  options_.pair.max_length = 3;
  options_.files = {write("a.csv", "prompt,chosen,rejected\np,aab,aac\np,ab,ac\n")};
  const PrepareStatistics statistics = prepare().statistics;
  EXPECT_EQ(statistics.num_rows_kept, 1);
  EXPECT_EQ(statistics.dropped_identical_once_cut.first_places, std::vector<std::string>{at("a.csv") + ":2"});
}

TEST_F(PreparePairsTest, TheFirstRowSaysWhatAnyUseIs) {
  options_.use = RowUse::kAny;
  options_.files = {write("a.jsonl", numbered_pairs(0, 3))};
  EXPECT_EQ(prepare().kind, kPairsKind);
  options_.files = {write("b.jsonl", numbered_rows(0, 9))};
  const DatasetIndex rows = prepare();
  EXPECT_EQ(rows.kind, kSftKind);
  options_.use = RowUse::kSft;  // which finds them again
  EXPECT_EQ(prepare().key, rows.key);
  options_.use = RowUse::kAny;
  options_.files = {at("b.jsonl"), at("a.jsonl")};
  EXPECT_NE(refusal(kExitData).find("pairs are for reward and dpo"), std::string::npos);
  options_.use = RowUse::kPreference;
  EXPECT_NE(refusal(kExitData).find("expected the columns of preference rows"), std::string::npos);
}

TEST_F(PreparePairsTest, AllFilesHaveMarginsOrNone) {
  options_.use = RowUse::kPreference;
  options_.files = {write("a.jsonl", numbered_pairs(0, 3)), write("b.csv", "prompt,chosen,rejected\nq,a,b\n")};
  const std::string message = refusal(kExitData);
  EXPECT_TRUE(message.starts_with(at("b.csv") + ": expected a column for the margin, as in " + at("a.jsonl")))
      << message;
  options_.files = {
      write("a.jsonl", numbered_pairs(0, 5) + R"({"prompt": "p", "chosen": "c", "rejected": "r"})" + "\n")};
  EXPECT_TRUE(refusal(kExitData).starts_with(at("a.jsonl") + ":6: row 5: expected a column \"margin\""));
  EXPECT_EQ(num_results(), 0u);
}

}  // namespace
}  // namespace plumb
