// Every tokenized pair that TRL produced from the reference data set, for reward models and for DPO.
#include <gtest/gtest.h>

#include <fstream>
#include <string>

#include "lib/text/pair.hpp"
#include "tests/support/reference.hpp"

namespace plumb {
namespace {

using nlohmann::json;

std::string reference_text(const std::string& name) {
  std::ifstream stream(test::reference_file(name), std::ios::binary);
  return {std::istreambuf_iterator<char>(stream), {}};
}

/// The kept pairs of the rows that the recorded run read.
std::vector<PairExample> read_pairs(const json& record, const PairOptions& options) {
  const std::string model = "models/" + record.at("model").get<std::string>();
  const Tokenizer tokenizer =
      Tokenizer::from_json(reference_text(model + "/tokenizer.json"), reference_text(model + "/tokenizer_config.json"));
  std::ifstream stream(test::reference_file("data/" + record.at("data").get<std::string>()));
  std::vector<PairExample> pairs;
  std::optional<RowFormat> format;
  std::string line;
  for (int64_t i = 0; i < record.at("args").at("rows") && std::getline(stream, line); ++i) {
    const json row = json::parse(line);
    if (!format) format = find_row_format(row, {}, "row 0", RowUse::kPreference);
    PairExample pair = tokenize_pair(render_pair(row, *format, nullptr, options, "row"), tokenizer, options);
    if (pair.drop_reason == PairDropReason::kNone) pairs.push_back(std::move(pair));
  }
  return pairs;
}

std::vector<int32_t> joined(const json& row, const char* begin, const char* end, size_t max_tokens) {
  auto ids = row.at(begin).get<std::vector<int32_t>>();
  for (const json& id : row.at(end)) ids.push_back(id);
  ids.resize(std::min(ids.size(), max_tokens));
  return ids;
}

class DpoReferenceTest : public testing::TestWithParam<const char*> {};

TEST_P(DpoReferenceTest, PairsMatchTrl) {
  SKIP_WITHOUT_REFERENCE_RECORDS();
  const json record = test::reference_json(std::string("golden/") + GetParam() + ".json");
  PairOptions options;
  options.max_length = record.at("args").at("max_length");
  const auto max_tokens = static_cast<size_t>(options.max_length);
  const std::vector<PairExample> pairs = read_pairs(record, options);
  ASSERT_EQ(pairs.size(), record.at("rows").size());
  for (size_t i = 0; i < pairs.size(); ++i) {
    const json& row = record.at("rows").at(i);
    EXPECT_EQ(pairs[i].prompt_length, std::ssize(row.at("prompt_ids"))) << "row " << i;
    EXPECT_EQ(pairs[i].chosen, joined(row, "prompt_ids", "chosen_ids", max_tokens)) << "row " << i;
    EXPECT_EQ(pairs[i].rejected, joined(row, "prompt_ids", "rejected_ids", max_tokens)) << "row " << i;
  }
}

INSTANTIATE_TEST_SUITE_P(Runs, DpoReferenceTest,
                         testing::Values("dpo", "dpo_aot", "dpo_aot_unpaired", "dpo_apo_down", "dpo_apo_zero",
                                         "dpo_bco_pair", "dpo_discopop", "dpo_exo_pair", "dpo_hinge", "dpo_ipo",
                                         "dpo_nca_pair", "dpo_robust", "dpo_sft", "dpo_sppo_hard"),
                         [](const auto& param_info) { return std::string(param_info.param); });

class RewardReferenceTest : public testing::TestWithParam<const char*> {};

TEST_P(RewardReferenceTest, PairsMatchTrl) {
  SKIP_WITHOUT_REFERENCE_RECORDS();
  const json record = test::reference_json(std::string("golden/") + GetParam() + ".json");
  PairOptions options;
  options.max_length = record.at("args").at("max_length");
  options.drops_long_pairs = true;
  const std::vector<PairExample> pairs = read_pairs(record, options);
  ASSERT_EQ(pairs.size(), record.at("rows").size());
  for (size_t i = 0; i < pairs.size(); ++i) {
    const json& row = record.at("rows").at(i);
    EXPECT_EQ(pairs[i].chosen, row.at("chosen_ids").get<std::vector<int32_t>>()) << "row " << i;
    EXPECT_EQ(pairs[i].rejected, row.at("rejected_ids").get<std::vector<int32_t>>()) << "row " << i;
    EXPECT_TRUE(pairs[i].ends_in_eos) << "row " << i;
  }
}

INSTANTIATE_TEST_SUITE_P(Runs, RewardReferenceTest, testing::Values("reward", "reward_center"),
                         [](const auto& param_info) { return std::string(param_info.param); });

}  // namespace
}  // namespace plumb
