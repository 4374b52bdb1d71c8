#include "apps/options/lora_options.hpp"

#include <gtest/gtest.h>

#include "io/huggingface/peft_targets.hpp"
#include "lib/base/check.hpp"
#include "tests/support/refusal.hpp"
#include "tests/support/tiny_config.hpp"

namespace plumb {
namespace {

LoraOptions parse(const std::vector<std::string>& arguments) {
  LoraOptions options;
  const std::vector<BoundOption> bound = bind_options(options);
  parse(bound, read_command_line(options_of(bound), arguments, "", "test"));
  validate(options);
  return options;
}

LoraConfig config_of(std::vector<std::string> arguments, const std::string& task_type = "CAUSAL_LM") {
  arguments.insert(arguments.begin(), {"--lora_r", "16"});
  return lora_config(parse(arguments), task_type, "models/base");
}

std::string refusal(const std::vector<std::string>& arguments) {
  return message_of<UsageError>([&] { parse(arguments); });
}

TEST(LoraOptions, AreOffByDefault) {
  EXPECT_FALSE(parse({}).is_used());
  EXPECT_TRUE(parse({"--lora_r", "1"}).is_used());
  EXPECT_TRUE(parse({"--adapter", "directory"}).is_used());
}

TEST(LoraOptions, HaveTheCommonRecipesDefaults) {
  const LoraConfig config = config_of({});
  EXPECT_EQ(config.base_model, "models/base");
  EXPECT_EQ(config.task_type, "CAUSAL_LM");
  EXPECT_EQ(config.r, 16);
  EXPECT_EQ(config.lora_alpha, 32);
  EXPECT_EQ(config.lora_dropout, 0);
  EXPECT_EQ(config.target_modules, (ModuleSelection{{"k_proj", "o_proj", "q_proj", "v_proj"}, ""}));
  EXPECT_TRUE(config.modules_to_save.empty() && config.rank_pattern.empty() && config.alpha_pattern.empty());
  EXPECT_FALSE(config.uses_dora || config.uses_rslora);
}

TEST(LoraOptions, AcceptModuleNamesKeywordOrRegularExpression) {
  const auto targets = [](std::vector<std::string> words) {
    words.insert(words.begin(), "--lora_target_modules");
    return config_of(words).target_modules;
  };
  EXPECT_EQ(targets({"v_proj", "q_proj"}), (ModuleSelection{{"q_proj", "v_proj"}, ""}));
  EXPECT_EQ(targets({"v_proj,q_proj"}), (ModuleSelection{{"q_proj", "v_proj"}, ""}));
  EXPECT_EQ(targets({"model.layers.0.mlp.up_proj"}), (ModuleSelection{{"model.layers.0.mlp.up_proj"}, ""}));
  EXPECT_EQ(targets({"all-linear"}), (ModuleSelection{{}, "all-linear"}));
  EXPECT_EQ(targets({".*\\.(q|k)_proj"}), (ModuleSelection{{}, ".*\\.(q|k)_proj"}));
  EXPECT_EQ(targets({".*[0-9]{1,2}.*q_proj"}).regex, ".*[0-9]{1,2}.*q_proj");
}

TEST(LoraOptions, TakePatternsAndFlags) {
  const LoraConfig config = config_of({"--lora_rank_pattern", "down_proj=4,q_proj=16", "--lora_alpha_pattern",
                                       "layers.0.*=0.5", "--use_rslora", "--use_dora", "true", "--lora_dropout", "0.1",
                                       "--lora_modules_to_save", "lm_head", "embed_tokens"});
  EXPECT_EQ(config.rank_pattern, (ModulePatterns<int64_t>{{"down_proj", 4}, {"q_proj", 16}}));
  EXPECT_EQ(config.alpha_pattern, (ModulePatterns<double>{{"layers.0.*", 0.5}}));
  EXPECT_EQ(config.modules_to_save, (std::vector<std::string>{"embed_tokens", "lm_head"}));
  EXPECT_TRUE(config.uses_rslora && config.uses_dora);
  EXPECT_EQ(config.lora_dropout, 0.1);
}

TEST(LoraOptions, NameRowsOfEmbeddingAndHead) {
  using Rows = std::vector<std::pair<std::string, std::vector<int64_t>>>;
  const auto rows = [](std::vector<std::string> words) {
    words.insert(words.begin(), "--lora_trainable_token_indices");
    return config_of(words).token_rows;
  };
  EXPECT_EQ(rows({"513", "7"}), (Rows{{"embed_tokens", {513, 7}}}));
  EXPECT_EQ(rows({"embed_tokens=5,6", "lm_head=6,5"}), (Rows{{"embed_tokens", {5, 6}}, {"lm_head", {6, 5}}}));
  for (const char* wrong : {"x", "5,5", "lm_head=", "=5", "-1", "5.0", "99999999999999999999"})
    EXPECT_NE(refusal({"--lora_r", "4", "--lora_trainable_token_indices", wrong}).find("trainable_token_indices"),
              std::string::npos);
  EXPECT_TRUE(config_of({"--lora_ensure_weight_tying", "true"}).ensures_tying);
}

TEST(LoraOptions, WithoutAnAdapterAreNamed) {
  EXPECT_EQ(options_without_adapter(parse({})), "");
  EXPECT_EQ(options_without_adapter(parse({"--lora_r", "4", "--use_dora", "true"})), "");
  EXPECT_EQ(options_without_adapter(parse({"--use_dora", "true", "--lora_alpha", "8"})), "--lora_alpha, --use_dora");
}

TEST(LoraOptions, OfPatternsThatNameNoLayerAreRefused) {
  const auto resolve = [](const std::string& pattern) {
    return [pattern] { resolve_options(config_of({"--lora_rank_pattern", pattern}), test::tiny_config()); };
  };
  EXPECT_NO_THROW(resolve("q_proj=4,layers.0.self_attn.k_proj=2")());
  EXPECT_NE(message_of<UsageError>(resolve("down_proj=4")).find("lora_rank_pattern: down_proj: "), std::string::npos);
}

TEST(LoraOptions, OfARewardModelSaveItsScore) {
  EXPECT_EQ(config_of({}, "SEQ_CLS").modules_to_save, std::vector<std::string>{"score"});
  EXPECT_EQ(config_of({"--lora_modules_to_save", "score"}, "SEQ_CLS").modules_to_save,
            std::vector<std::string>{"score"});
}

TEST(LoraOptions, RoundTripThroughPeftConfig) {
  const LoraConfig config = config_of({"--lora_target_modules", "all-linear", "--lora_alpha_pattern", "q_proj=2.5"});
  EXPECT_EQ(parse_lora_config(render_lora_config(config), "x"), config);
}

TEST(LoraOptions, RefuseInvalidValues) {
  EXPECT_NE(refusal({"--lora_r", "-1"}).find("lora_r"), std::string::npos);
  EXPECT_NE(refusal({"--lora_alpha", "0"}).find("lora_alpha"), std::string::npos);
  EXPECT_NE(refusal({"--lora_dropout", "1"}).find("lora_dropout"), std::string::npos);
  EXPECT_NE(refusal({"--quantize", "int3"}).find("nf4"), std::string::npos);
  EXPECT_NE(refusal({"--quantize", "nf4"}).find("--lora_r"), std::string::npos);
  EXPECT_NE(refusal({"--lora_r", "4", "--adapter", "d"}).find("--adapter"), std::string::npos);
  for (const char* pattern :
       {"q_proj", "q_proj=", "q_proj=x", "=4", "q_proj=4,,", "q_proj=-1", "q_proj=4,q_proj=5", "q_proj=1.5"})
    EXPECT_NE(refusal({"--lora_r", "4", "--lora_rank_pattern", pattern}).find("lora_rank_pattern"), std::string::npos);
  EXPECT_NE(refusal({"--lora_r", "4", "--lora_target_modules", "all-linear", "q_proj"}).find("alone"),
            std::string::npos);
  EXPECT_NE(refusal({"--lora_r", "4", "--lora_target_modules", ".*q_proj", "k_proj"}).find("alone"), std::string::npos);
}

}  // namespace
}  // namespace plumb
