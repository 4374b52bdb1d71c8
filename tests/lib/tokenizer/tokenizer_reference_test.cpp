// Every id and every decoded text that the Hugging Face tokenizers library recorded, from the reference directory.
#include <gtest/gtest.h>

#include <filesystem>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>

#include "lib/tokenizer/tokenizer.hpp"
#include "tests/support/reference.hpp"

namespace plumb {
namespace {

class TokenizerReference : public testing::TestWithParam<const char*> {
 protected:
  void SetUp() override { SKIP_WITHOUT_REFERENCE_RECORDS(); }
  static std::string record(const std::string& name) {
    return test::reference_text(std::string(GetParam()) + "/" + name);
  }
};

TEST_P(TokenizerReference, MatchesEveryRecordedIdAndText) {
  const Tokenizer tokenizer = Tokenizer::from_json(record("tokenizer.json"));
  std::istringstream lines(record("vectors.jsonl"));
  size_t num_lines = 0;
  for (std::string line; std::getline(lines, line); ++num_lines) {
    const nlohmann::json vector = nlohmann::json::parse(line);
    const auto text = vector.at("text").get<std::string>();
    const std::vector<int32_t> ids = tokenizer.encode(text);
    EXPECT_EQ(ids, vector.at("ids").get<std::vector<int32_t>>()) << "line " << num_lines + 1 << ": " << text;
    EXPECT_EQ(tokenizer.decode(ids), vector.at("decoded").get<std::string>()) << "line " << num_lines + 1;
  }
  EXPECT_GE(num_lines, 1000u);
}

// A chat template renders control tokens, messages do not: the same bytes must give other ids.
TEST_P(TokenizerReference, UserSpecialTokensStayTextAndRoundTrip) {
  const std::string config_name = "tokenizer_config.json";
  const bool has_config = std::filesystem::exists(test::reference_file(GetParam() + ("/" + config_name)));
  const std::string config = has_config ? record(config_name) : "";
  const Tokenizer tokenizer = Tokenizer::from_json(record("tokenizer.json"), config);
  for (int32_t id = 0; id < tokenizer.vocab_size(); ++id) {
    if (!tokenizer.is_special(id)) continue;
    const std::string text = tokenizer.decode(std::vector<int32_t>{id});
    EXPECT_EQ(tokenizer.encode(text, false), std::vector<int32_t>{id});
    const std::vector<int32_t> ids = tokenizer.encode(MarkedText{text, {{0, text.size()}}}, false);
    for (const int32_t part : ids) EXPECT_FALSE(tokenizer.is_special(part)) << text;
    const std::string decoded = tokenizer.decode(ids);
    EXPECT_NE(decoded.find(text), std::string::npos) << decoded;
  }
}

std::string test_name(const testing::TestParamInfo<const char*>& info) {
  std::string name = std::filesystem::path(info.param).filename().string();
  std::erase_if(name, [](char c) { return !std::isalnum(static_cast<unsigned char>(c)); });
  return name;
}

INSTANTIATE_TEST_SUITE_P(Models, TokenizerReference,
                         testing::Values("models/stories260K", "tokenizers/gpt2", "tokenizers/qwen2.5"), test_name);

}  // namespace
}  // namespace plumb
