#include "io/huggingface/init_model.hpp"

#include <gtest/gtest.h>

#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "io/file/file.hpp"
#include "io/huggingface/hf_model.hpp"
#include "io/huggingface/tokenizer_files.hpp"
#include "lib/base/check.hpp"
#include "lib/model/families.hpp"
#include "lib/model/initialize.hpp"
#include "lib/text/chat_template.hpp"
#include "tests/io/huggingface/tiny_model.hpp"
#include "tests/support/temporary_directory.hpp"

namespace plumb {
namespace {

ModelConfig byte_config(Family family, const NewTokenizer& tokenizer) {
  const nlohmann::json config = {{"model_type", traits_of(family).model_type},
                                 {"vocab_size", 264},
                                 {"hidden_size", 16},
                                 {"intermediate_size", 10},
                                 {"num_hidden_layers", 2},
                                 {"num_attention_heads", 2},
                                 {"num_key_value_heads", 1},
                                 {"head_dim", 8},
                                 {"bos_token_id", nullptr},
                                 {"eos_token_id", tokenizer.eos_token_id}};
  return parse_model_config(config.dump(), "config");
}

TEST(MakeByteLevelTokenizer, EveryByteIsItsOwnToken) {
  const TemporaryDirectory directory;
  const NewTokenizer made = make_byte_level_tokenizer("");
  for (const TextFile& file : made.files) write_new_file(directory / file.name, file.content);
  const Tokenizer tokenizer = load_tokenizer(directory.path());
  EXPECT_EQ(made.vocab_size, 260);
  std::string text = "it's 42 \u00e9\u20ac\n\t ";
  for (char byte = 1; byte < 127; ++byte) text += byte;
  std::vector<int32_t> bytes;
  for (const char byte : text) bytes.push_back(static_cast<unsigned char>(byte));
  EXPECT_EQ(tokenizer.encode(text), bytes);
  EXPECT_EQ(tokenizer.decode(bytes), text);
}

TEST(MakeByteLevelTokenizer, EosEndsTheTurnsOfItsTemplate) {
  EXPECT_EQ(make_byte_level_tokenizer("").eos_token_id, 256);
  EXPECT_EQ(make_byte_level_tokenizer("instructgpt").eos_token_id, 256);
  EXPECT_EQ(make_byte_level_tokenizer("chatml").eos_token_id, 258);
  EXPECT_EQ(make_byte_level_tokenizer("chatml").bos_token_id, -1);
}

TEST(MakeByteLevelTokenizer, AcceptsEveryTemplateWhoseTokensItHas) {
  for (const std::string& name : template_names()) {
    if (name == "llama3") {
      EXPECT_THROW(make_byte_level_tokenizer(name), UsageError);
      continue;
    }
    const NewTokenizer made = make_byte_level_tokenizer(name);
    const Tokenizer tokenizer = Tokenizer::from_json(made.files[0].content, made.files[1].content);
    const auto own = ChatTemplate::from_jinja(tokenizer.chat_template(), "", tokenizer.eos_token());
    const auto named = ChatTemplate::named(name, "", tokenizer.eos_token());
    const std::vector<Message> messages = {{"user", "a"}, {"assistant", "b"}};
    EXPECT_EQ(own.render(messages, false).text, named.render(messages, false).text) << name;
    EXPECT_NE(own.render(messages, false).text.find(tokenizer.eos_token()), std::string::npos) << name;
  }
  EXPECT_THROW(make_byte_level_tokenizer("chatm"), UsageError);
}

TEST(CopyTokenizer, NamedTemplateReplacesTheModelsOwn) {
  const TemporaryDirectory directory;
  for (const TextFile& file : make_byte_level_tokenizer("alpaca").files) directory.write(file.name, file.content);
  directory.write("chat_template.jinja", "{{ 'own' }}");
  const NewTokenizer same = copy_tokenizer(directory.path(), "");
  EXPECT_EQ(same.files.size(), 3u);
  EXPECT_EQ(same.eos_token_id, 256);
  const NewTokenizer replaced = copy_tokenizer(directory.path(), "chatml");
  ASSERT_EQ(replaced.files.size(), 2u);
  const auto config = nlohmann::json::parse(replaced.files[1].content);
  EXPECT_NE(config.at("chat_template").get<std::string>().find("im_start"), std::string::npos);
  EXPECT_EQ(config.at("eos_token"), "<|endoftext|>");
}

TEST(WriteRandomModel, OpensWithTheGivenConfigInBothDtypes) {
  const NewTokenizer tokenizer = make_byte_level_tokenizer("chatml");
  for (const std::string& name : family_names()) {
    const Family family = find_family(name)->family;
    for (const Dtype dtype : {Dtype::kF32, Dtype::kBf16}) {
      const TemporaryDirectory directory;
      const ModelConfig config = byte_config(family, tokenizer);
      write_random_model(directory / "model", config, dtype, 7, tokenizer, ExistingDirectory::kRefuse);
      const HfModel model(directory / "model");
      EXPECT_EQ(render_model_config(model.config(), "float32"), render_model_config(config, "float32"));
      for (const UnitLayout& unit : model.units()) {
        std::vector<float> expected(unit.num_elements);
        initialize_unit_range(unit, config, 7, 0, unit.num_elements, expected);
        if (dtype == Dtype::kBf16)
          for (float& value : expected) value = bf16_to_float(float_to_bf16(value));
        EXPECT_EQ(read_whole_unit(model, unit), expected) << unit.name;
      }
      EXPECT_EQ(load_tokenizer(directory / "model").eos_id(), 258);
    }
  }
}

TEST(WriteRandomModel, IsNoRewardModelWhereTransformersHasNone) {
  const NewTokenizer tokenizer = make_byte_level_tokenizer("");
  for (const Family family : {Family::kGranite, Family::kLlama}) {
    const TemporaryDirectory directory;
    const ModelConfig config = byte_config(family, tokenizer);
    write_random_model(directory / "model", config, Dtype::kF32, 7, tokenizer, ExistingDirectory::kRefuse);
    const auto open = [&] { HfModel(directory / "model", {.head = HeadKind::kScore}); };
    if (family == Family::kGranite) {
      EXPECT_THROW(open(), UsageError);
    } else {
      EXPECT_NO_THROW(open());
    }
  }
}

TEST(WriteRandomModel, KeepsExistingFiles) {
  const TemporaryDirectory directory;
  const NewTokenizer tokenizer = make_byte_level_tokenizer("");
  const ModelConfig config = byte_config(Family::kLlama, tokenizer);
  std::filesystem::create_directory(directory / "model");
  directory.write("model/notes.txt", "mine");
  EXPECT_THROW(write_random_model(directory / "model", config, Dtype::kF32, 7, tokenizer, ExistingDirectory::kRefuse),
               UsageError);
  EXPECT_THROW(write_random_model(directory / "model", config, Dtype::kF32, 7, tokenizer, ExistingDirectory::kReplace),
               UsageError);
  EXPECT_EQ(read_text_file(directory / "model/notes.txt", 100), "mine");
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(directory.path()), {}), 1);
}

}  // namespace
}  // namespace plumb
