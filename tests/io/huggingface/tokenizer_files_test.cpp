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
  const Tokenizer older = load_tokenizer({directory.path(), "", "", TokenizerBehavior::kTransformers4});
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

TEST(TokenizerFiles, EosTokenReplacesThatOfTheFiles) {
  const TemporaryDirectory directory;
  directory.write("tokenizer.json", byte_tokenizer_json());
  directory.write("tokenizer_config.json", R"({"eos_token": "</s>"})");
  directory.write("special_tokens_map.json", R"({"eos_token": {"content": "</s>"}})");
  const Tokenizer tokenizer = load_tokenizer(TokenizerSource{directory.path(), "", "<unk>"});
  EXPECT_EQ(tokenizer.eos_id(), 0);
  EXPECT_EQ(tokenizer.eos_token(), "<unk>");
  EXPECT_EQ(tokenizer.encode("</s>"), std::vector<int32_t>{kEosId});
  expect_contains(message_of<UsageError>([&] {
                    load_tokenizer(TokenizerSource{directory.path(), "", "<|end|>"});
                  }),
                  {"--eos_token <|end|>", directory.path()});
  directory.write("tokenizer.json", "{");
  EXPECT_THROW(load_tokenizer(TokenizerSource{directory.path(), "", "<unk>"}), DataError);
}

TEST(TokenizerFiles, TheEosBeforeStaysAControlToken) {
  const auto replaced = [](const char* config) {
    nlohmann::json object = nlohmann::json::parse(config);
    replace_eos_token(object, "b");
    return object.dump();
  };
  EXPECT_EQ(replaced(R"({"eos_token":"b"})"), R"({"eos_token":"b"})");
  EXPECT_EQ(replaced(R"({"eos_token":{"content":"a"}})"), R"({"additional_special_tokens":["a"],"eos_token":"b"})");
  EXPECT_EQ(replaced(R"({"eos_token":"a","extra_special_tokens":["c"]})"),
            R"({"eos_token":"b","extra_special_tokens":["c","a"]})");
  EXPECT_EQ(replaced(R"({"added_tokens_decoder":{"2":{"content":"a"}},"eos_token":"a"})"),
            R"({"added_tokens_decoder":{"2":{"content":"a"}},"eos_token":"b"})");
  EXPECT_EQ(replaced("{}"), R"({"eos_token":"b"})");
}

TEST(TokenizerFiles, AdaptersOwnPrecedesTheModels) {
  const TemporaryDirectory model, adapter;
  const TokenizerSource both = {model.path(), adapter.path()};
  const auto chat_template = [&] { return load_tokenizer(both).chat_template(); };
  model.write("tokenizer.json", byte_tokenizer_json());
  model.write("tokenizer_config.json", R"({"eos_token": "</s>", "chat_template": "model"})");
  adapter.write("adapter_config.json", "{}");
  EXPECT_EQ(chat_template(), "model");
  EXPECT_FALSE(has_other_tokenizer(both));
  adapter.write("tokenizer_config.json", R"({"eos_token": "</s>", "chat_template": "adapter"})");
  EXPECT_EQ(chat_template(), "adapter");
  model.write("chat_template.jinja", "model's file");  // goes with the config beside it
  EXPECT_EQ(chat_template(), "adapter");
  EXPECT_TRUE(has_other_tokenizer(both));
  adapter.write("chat_template.jinja", "adapter's file");
  EXPECT_EQ(chat_template(), "adapter's file");
  EXPECT_EQ(load_tokenizer(both).eos_id(), kEosId);
}

TEST(TokenizerFiles, AdaptersVocabularyIsReadAsThatOfTheModel) {
  const TemporaryDirectory model, adapter;
  const TokenizerSource both = {model.path(), adapter.path()};
  for (const TemporaryDirectory* directory : {&model, &adapter}) {
    directory->write("tokenizer.json", byte_tokenizer_json());
    directory->write("tokenizer_config.json", R"({"tokenizer_class": "LlamaTokenizer"})");
  }
  for (const char* model_type : {R"({"model_type": "mistral"})", R"({"model_type": "llama"})"}) {
    model.write("config.json", model_type);
    EXPECT_EQ(load_tokenizer(both).encode("a"), load_tokenizer(model.path()).encode("a")) << model_type;
  }
}

TEST(TokenizerFiles, AdaptersVocabularyHasNoFilesOfTheModel) {
  const TemporaryDirectory model, adapter;
  const TokenizerSource both = {model.path(), adapter.path()};
  for (const TemporaryDirectory* directory : {&model, &adapter})
    directory->write("tokenizer.json", byte_tokenizer_json());
  model.write("tokenizer_config.json", R"({"eos_token": "</s>"})");
  model.write("special_tokens_map.json", R"({"bos_token": "<s>"})");
  model.write("generation_config.json", "{}");
  EXPECT_EQ(tokenizer_files(both), std::vector<std::string>{adapter / "tokenizer.json"});
  EXPECT_EQ(find_text_file(both, "generation_config.json"), model / "generation_config.json");
  EXPECT_TRUE(has_other_tokenizer(both));
  adapter.write("tokenizer_config.json", R"({"eos_token": "</s>"})");
  adapter.write("special_tokens_map.json", R"({"bos_token": "<s>"})");
  EXPECT_FALSE(has_other_tokenizer(both));
}

}  // namespace
}  // namespace plumb
