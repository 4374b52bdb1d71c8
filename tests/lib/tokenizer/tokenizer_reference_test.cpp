// Every id and every decoded text that the Hugging Face tokenizers library recorded, from the reference directory.
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>

#include "lib/tokenizer/tokenizer.hpp"

namespace plumb {
namespace {

std::filesystem::path reference_dir() {
  const char* set = std::getenv("PLUMB_REFERENCE");
  return set != nullptr ? std::filesystem::path(set) : std::filesystem::path(PLUMB_SOURCE_DIR) / "../shared/reference";
}

std::string read_file(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

class TokenizerReference : public testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    dir_ = reference_dir() / GetParam();
    if (!std::filesystem::exists(dir_ / "vectors.jsonl")) GTEST_SKIP() << "no " << dir_;
  }
  std::filesystem::path dir_;
};

TEST_P(TokenizerReference, MatchesEveryRecordedIdAndText) {
  const Tokenizer tokenizer = Tokenizer::from_json(read_file(dir_ / "tokenizer.json"));
  std::ifstream lines(dir_ / "vectors.jsonl");
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
TEST_P(TokenizerReference, SpecialTokensOfUsersStayTextAndRoundTrip) {
  const std::string config = std::filesystem::exists(dir_ / "tokenizer_config.json")
                                 ? read_file(dir_ / "tokenizer_config.json")
                                 : std::string();
  const Tokenizer tokenizer = Tokenizer::from_json(read_file(dir_ / "tokenizer.json"), config);
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
