#include "io/huggingface/tokenizer_files.hpp"

#include <gtest/gtest.h>

#include "lib/base/check.hpp"
#include "tests/io/huggingface/byte_tokenizer.hpp"
#include "tests/support/refusal.hpp"
#include "tests/support/temporary_directory.hpp"

namespace plumb {
namespace {

using Ids = std::vector<int32_t>;

TEST(TokenizerFiles, ReadsTokenizerAndConfig) {
  const TemporaryDirectory directory;
  directory.write("tokenizer.json", byte_tokenizer_json());
  directory.write("tokenizer_config.json", R"({"eos_token": "</s>", "chat_template": "old"})");
  const Tokenizer tokenizer = load_tokenizer(directory.path());
  EXPECT_EQ(tokenizer.encode("ab"), (std::vector<int32_t>{byte_id('a'), byte_id('b')}));
  EXPECT_EQ(tokenizer.eos_id(), kEosId);
  EXPECT_EQ(tokenizer.bos_id(), std::nullopt);
  EXPECT_EQ(tokenizer.chat_template(), "old");
}

TEST(TokenizerFiles, TemplateFilePrecedesTheConfig) {
  const TemporaryDirectory directory;
  directory.write("tokenizer.json", byte_tokenizer_json());
  directory.write("chat_template.jinja", "new \"quoted\" {{ '\\n' }}\n");
  EXPECT_EQ(load_tokenizer(directory.path()).chat_template(), "new \"quoted\" {{ '\\n' }}\n");
  directory.write("tokenizer_config.json", R"({"eos_token": "</s>", "chat_template": "old"})");
  EXPECT_EQ(load_tokenizer(directory.path()).chat_template(), "new \"quoted\" {{ '\\n' }}\n");
  EXPECT_EQ(load_tokenizer(directory.path()).eos_id(), kEosId);
}

TEST(TokenizerFiles, SpecialTokensMapGoesOverTheConfig) {
  const TemporaryDirectory directory;
  directory.write("tokenizer.json", byte_tokenizer_json());
  directory.write("special_tokens_map.json", R"({"bos_token": {"content": "<s>"}, "eos_token": "<unk>"})");
  directory.write("tokenizer_config.json", R"({"eos_token": "</s>"})");
  const Tokenizer tokenizer = load_tokenizer(directory.path());
  EXPECT_EQ(tokenizer.bos_id(), kBosId);
  EXPECT_EQ(tokenizer.eos_id(), 0);
  const Tokenizer older = load_tokenizer(directory.path(), TokenizerBehavior::kTransformers4);
  EXPECT_EQ(older.bos_id(), kBosId);
  EXPECT_EQ(older.eos_id(), kEosId) << "it only fills gaps";
}

TEST(TokenizerFiles, ConfigOfTheModelDecidesTheClass) {
  const TemporaryDirectory directory;
  directory.write("tokenizer.json", byte_tokenizer_json());
  directory.write("tokenizer_config.json", R"({"tokenizer_class": "LlamaTokenizer"})");
  directory.write("config.json", R"({"model_type": "mistral"})");
  EXPECT_EQ(load_tokenizer(directory.path()).encode("a"), Ids{byte_id('a')});
  directory.write("config.json", R"({"model_type": "llama"})");
  EXPECT_EQ(load_tokenizer(directory.path()).encode("a").back(), byte_id('a'));
  EXPECT_EQ(load_tokenizer(directory.path()).encode("a").size(), 4u) << "a leading U+2581";
}

TEST(TokenizerFiles, ListsTheFilesThatCount) {
  const TemporaryDirectory directory;
  directory.write("tokenizer.model", "x");
  directory.write("vocab.txt", "x");
  EXPECT_EQ(tokenizer_files(directory.path()), std::vector<std::string>{directory / "tokenizer.model"});
  directory.write("tokenizer.json", "x");
  directory.write("added_tokens.json", "x");
  directory.write("chat_template.jinja", "x");
  EXPECT_EQ(tokenizer_files(directory.path()),
            (std::vector<std::string>{directory / "tokenizer.json", directory / "added_tokens.json",
                                      directory / "chat_template.jinja"}));
}

TEST(TokenizerFiles, ErrorsNameTheDirectory) {
  const TemporaryDirectory directory;
  const auto names_it = [&](const std::string& message) { return message.starts_with(directory.path()); };
  const auto load = [&] { load_tokenizer(directory.path()); };
  EXPECT_TRUE(names_it(message_of<InputOutputError>(load)));
  directory.write("tokenizer.json", "{");
  EXPECT_TRUE(names_it(message_of<DataError>(load)));
  directory.write("tokenizer.json", byte_tokenizer_json());
  directory.write("chat_template.jinja", "\xff");
  EXPECT_TRUE(names_it(message_of<DataError>(load)));
  directory.write("chat_template.jinja", "x");
  directory.write("tokenizer_config.json", "[]");
  EXPECT_TRUE(names_it(message_of<DataError>(load)));
}

}  // namespace
}  // namespace plumb
