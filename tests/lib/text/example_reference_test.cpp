// Every tokenized row and label that TRL produced from the reference data sets.
#include <gtest/gtest.h>

#include <sstream>
#include <string>
#include <vector>

#include "lib/text/example.hpp"
#include "tests/support/reference.hpp"

namespace plumb {
namespace {

using nlohmann::json;

Tokenizer load_tokenizer(const std::string& model) {
  const std::string folder = "models/" + model + "/";
  return Tokenizer::from_json(test::reference_text(folder + "tokenizer.json"),
                              test::reference_text(folder + "tokenizer_config.json"));
}

std::vector<json> read_rows(const std::string& name, size_t num_rows) {
  std::istringstream stream(test::reference_text("data/" + name));
  std::vector<json> rows;
  for (std::string line; rows.size() < num_rows && std::getline(stream, line);) rows.push_back(json::parse(line));
  return rows;
}

SftExample tokenize_row(const json& row, const json& first_row, const Tokenizer& tokenizer, const SftOptions& options) {
  const RowFormat format = find_row_format(first_row, {}, "row 0");
  const std::optional<RowTemplate> row_template = choose_template(format, tokenizer);
  return tokenize_sft(render_sft(row, format, row_template ? &*row_template : nullptr, options, "row"), tokenizer,
                      options);
}

class SftExampleReferenceTest : public testing::TestWithParam<const char*> {};

TEST_P(SftExampleReferenceTest, TokensAndLabelsMatchTrl) {
  SKIP_WITHOUT_REFERENCE_RECORDS();
  const json golden = test::reference_json("golden/" + std::string(GetParam()) + ".json");
  const Tokenizer tokenizer = load_tokenizer(golden.at("model"));
  const std::vector<json> rows = read_rows(golden.at("data"), golden.at("args").at("rows"));
  SftOptions options;
  options.max_length = golden.at("args").at("max_length");

  std::vector<SftExample> examples;
  for (const json& row : rows) {
    SftExample example = tokenize_row(row, rows.front(), tokenizer, options);
    if (example.drop_reason == DropReason::kNone) examples.push_back(std::move(example));
  }
  ASSERT_EQ(examples.size(), golden.at("rows").size());
  for (size_t i = 0; i < examples.size(); ++i) {
    const SftExample& example = examples[i];
    std::vector<int32_t> labels = example.token_ids;
    for (size_t t = 0; t < labels.size(); ++t) labels[t] = example.loss_mask[t] ? labels[t] : -100;
    EXPECT_EQ(example.token_ids, golden["rows"][i]["input_ids"].get<std::vector<int32_t>>()) << "row " << i;
    EXPECT_EQ(labels, golden["rows"][i]["labels"].get<std::vector<int32_t>>()) << "row " << i;
  }
}

INSTANTIATE_TEST_SUITE_P(Runs, SftExampleReferenceTest,
                         testing::Values("sft", "sft_text", "sft_llama3", "sft_mistral", "sft_qwen2", "sft_qwen3"),
                         [](const auto& param_info) { return std::string(param_info.param); });

TEST(SftExampleReference, AlpacaColumnsMatchRenderedRows) {
  SKIP_WITHOUT_REFERENCE_RECORDS();
  const Tokenizer tokenizer = load_tokenizer("stories260K");
  const std::vector<json> rendered = read_rows("sft_alpaca.jsonl", 200);
  const std::vector<json> columns = read_rows("sft_alpaca_columns.jsonl", 200);
  ASSERT_EQ(rendered.size(), 200u);
  for (size_t i = 0; i < rendered.size(); ++i) {
    const SftExample expected = tokenize_row(rendered[i], rendered[0], tokenizer, {});
    const SftExample example = tokenize_row(columns[i], columns[0], tokenizer, {});
    EXPECT_EQ(example.token_ids, expected.token_ids) << "row " << i;
    EXPECT_EQ(example.loss_mask, expected.loss_mask) << "row " << i;
    EXPECT_TRUE(example.prompt_is_prefix && (example.is_truncated || example.ends_in_trained_eos)) << "row " << i;
  }
}

}  // namespace
}  // namespace plumb
