#include "io/huggingface/peft_config.hpp"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "lib/base/check.hpp"
#include "tests/support/refusal.hpp"

namespace plumb {
namespace {

using nlohmann::json;

LoraConfig parse(const json& object) { return parse_lora_config(object.dump(), "adapter_config.json"); }

/// A config as PEFT writes it, with one key changed.
json written_by_peft(const std::string& key = "r", const json& value = 8) {
  json object = json::parse(R"({"alora_invocation_tokens": null, "alpha_pattern": {}, "arrow_config": null,
    "auto_mapping": null, "base_model_name_or_path": "some/base", "bias": "none", "corda_config": null,
    "ensure_weight_tying": false, "eva_config": null, "exclude_modules": null, "fan_in_fan_out": false,
    "inference_mode": true, "init_lora_weights": true, "kasa_config": null, "layer_replication": null,
    "layers_pattern": null, "layers_to_transform": null, "loftq_config": {}, "lora_alpha": 16, "lora_bias": false,
    "lora_dropout": 0.05, "lora_ga_config": null, "megatron_config": null, "megatron_core": "megatron.core",
    "modules_to_save": null, "peft_type": "LORA", "peft_version": "0.21.2", "qalora_group_size": 16, "r": 8,
    "rank_pattern": {}, "revision": null, "target_modules": ["q_proj", "v_proj"], "target_parameters": null,
    "task_type": "CAUSAL_LM", "trainable_token_indices": null, "use_bdlora": null, "use_dora": false,
    "use_qalora": false, "use_rslora": false, "a_key_of_the_future": null})");
  object[key] = value;
  return object;
}

std::string refusal(const std::string& key, const json& value) {
  return message_of<DataError>([&] { parse(written_by_peft(key, value)); });
}

TEST(LoraConfig, ReadsWhatPeftWrites) {
  const LoraConfig config = parse(written_by_peft());
  EXPECT_EQ(config.base_model, "some/base");
  EXPECT_EQ(config.task_type, "CAUSAL_LM");
  EXPECT_EQ(config.r, 8);
  EXPECT_EQ(config.lora_alpha, 16);
  EXPECT_EQ(config.lora_dropout, 0.05);
  EXPECT_EQ(config.target_modules, (ModuleSelection{{"q_proj", "v_proj"}, ""}));
  EXPECT_TRUE(config.exclude_modules.is_empty() && config.modules_to_save.empty());
  EXPECT_FALSE(config.uses_dora || config.uses_rslora);
}

TEST(LoraConfig, UsesPeftDefaultsForMissingKeys) {
  const LoraConfig config = parse({{"peft_type", "LORA"}});
  EXPECT_EQ(config, (LoraConfig{.target_modules = {{"q_proj", "v_proj"}, ""}}));
}

TEST(LoraConfig, RoundTrips) {
  const LoraConfig config = {.base_model = "b",
                             .task_type = "SEQ_CLS",
                             .r = 4,
                             .lora_alpha = 2.5,
                             .lora_dropout = 0.1,
                             .target_modules = {{"down_proj", "q_proj"}, ""},
                             .exclude_modules = {{}, ".*layers\\.0\\..*"},
                             .rank_pattern = {{"q_proj", 2}},
                             .alpha_pattern = {{"x", 0.5}, {"layers.1.*", 3}},  // their order counts
                             .layers_to_transform = {0, 1},
                             .modules_to_save = {"score"},
                             .token_rows = {{"embed_tokens", {9, 3}}, {"lm_head", {4}}},
                             .ensures_tying = true,
                             .uses_rslora = true,
                             .uses_dora = true};
  const std::string text = render_lora_config(config);
  EXPECT_EQ(parse_lora_config(text, "x"), config);
  EXPECT_EQ(render_lora_config(parse_lora_config(text, "x")), text);
}

TEST(LoraConfig, IsWrittenWithSortedPeftKeys) {
  const std::string text =
      render_lora_config({.r = 16, .lora_alpha = 32, .target_modules = {{"v_proj", "q_proj"}, ""}});
  const json written = json::parse(text);
  const json peft = written_by_peft();
  for (const auto& [key, value] : written.items()) EXPECT_TRUE(peft.contains(key)) << key;
  for (const char* key : {"peft_type", "task_type", "base_model_name_or_path", "bias", "fan_in_fan_out",
                          "init_lora_weights", "modules_to_save", "inference_mode"})
    EXPECT_TRUE(written.contains(key)) << key;
  EXPECT_EQ(text, written.dump(2) + "\n");
  EXPECT_EQ(written.at("target_modules"), json({"q_proj", "v_proj"}));
  EXPECT_EQ(written.at("lora_alpha").dump(), "32");  // a whole number, as PEFT declares it
  EXPECT_EQ(written.at("lora_dropout").dump(), "0.0");
  EXPECT_TRUE(written.at("modules_to_save").is_null());
}

TEST(LoraConfig, ExpertsAloneAreNoReasonForTheDefaultTargets) {
  const LoraConfig config = parse_lora_config(
      R"({"peft_type": "LORA", "target_modules": null, "target_parameters": ["experts.down_proj"]})", "a");
  EXPECT_TRUE(config.target_modules.is_empty());
  EXPECT_EQ(config.target_parameters, std::vector<std::string>{"experts.down_proj"});
  EXPECT_EQ(parse_lora_config(render_lora_config(config), "b"), config);
}

TEST(LoraConfig, RefusesUnsupportedKeysByName) {
  const std::vector<std::pair<std::string, json>> unsupported = {{"peft_type", "IA3"},
                                                                 {"lora_bias", true},
                                                                 {"layer_replication", {{0, 4}, {2, 5}}},
                                                                 {"use_qalora", true},
                                                                 {"use_bdlora", {{"nblocks", 2}}},
                                                                 {"arrow_config", {{"top_k", 3}}},
                                                                 {"alora_invocation_tokens", {5}},
                                                                 {"kasa_config", {{"beta", 1}}},
                                                                 {"a_key_of_the_future", {{"x", {1}}}},
                                                                 {"init_lora_weights", "pissa"},
                                                                 {"init_lora_weights", "loftq"},
                                                                 {"layers_pattern", "h"}};
  for (const auto& [key, value] : unsupported) {
    const std::string message = refusal(key, value);
    EXPECT_NE(message.find("adapter_config.json: " + key), std::string::npos) << message;
    EXPECT_NE(message.find("not supported"), std::string::npos) << message;
  }
}

TEST(LoraConfig, EveryKeyOfPeftIsReadOrHarmlessOrRefused) {
  // a value with a meaning for each key of PEFT 0.21's LoraConfig; of the harmless ones any
  const json peft = written_by_peft();
  const auto keys = lora_keys();
  for (const auto& [key, value] : peft.items()) {
    if (key == "a_key_of_the_future") continue;
    EXPECT_TRUE(std::any_of(keys.begin(), keys.end(), [&key = key](const LoraKey& k) { return k.name == key; })) << key;
  }
  const LoraConfig plain = parse(peft);
  for (const LoraKey& key : keys) {
    SCOPED_TRACE(key.name);
    EXPECT_EQ(key.use == LoraKeyUse::kRead, key.reason.empty());
    if (key.use == LoraKeyUse::kHarmless) {
      EXPECT_EQ(parse(written_by_peft(std::string(key.name), {{"x", 1}})), plain);
    }
    if (key.use != LoraKeyUse::kOffOnly) continue;
    const std::string message = refusal(std::string(key.name), {{"x", 1}});
    expect_contains(message, {key.name, key.reason, "merge_and_unload"});
    for (const json& off : {json(), json(false), json::array(), json::object()})
      EXPECT_EQ(parse(written_by_peft(std::string(key.name), off)), plain);
  }
  expect_contains(refusal("a_key_of_the_future", 0.5),
                  {"a_key_of_the_future: 0.5", "does not know this key", "remove"});
  expect_contains(refusal("init_lora_weights", "pissa"), {"path_initial_model_for_weight_conversion"});
}

TEST(LoraConfig, ReadsTokenRowsInAllForms) {
  using Rows = std::vector<std::pair<std::string, std::vector<int64_t>>>;
  const auto rows = [](const json& value) {
    return parse(written_by_peft("trainable_token_indices", value)).token_rows;
  };
  EXPECT_EQ(rows({5, 2}), (Rows{{"embed_tokens", {5, 2}}}));
  EXPECT_EQ(rows({{"model.embed_tokens", {1}}}), (Rows{{"model.embed_tokens", {1}}}));
  EXPECT_EQ(rows({{"lm_head", {3}}, {"embed_tokens", {7, 1}}}), (Rows{{"embed_tokens", {7, 1}}, {"lm_head", {3}}}));
  EXPECT_EQ(rows(json::array()), Rows{});
}

TEST(LoraConfig, RefusesValuesOfTheWrongKind) {
  const std::vector<std::pair<std::string, json>> wrong = {{"r", 0},
                                                           {"r", "8"},
                                                           {"r", 8.5},
                                                           {"r", int64_t{1} << 40},
                                                           {"lora_alpha", nullptr},
                                                           {"lora_dropout", 1.5},
                                                           {"target_modules", 5},
                                                           {"target_modules", {"q_proj", 5}},
                                                           {"target_modules", {""}},
                                                           {"rank_pattern", {"q_proj"}},
                                                           {"rank_pattern", {{"q_proj", 0}}},
                                                           {"alpha_pattern", {{"q_proj", "x"}}},
                                                           {"layers_to_transform", {-1}},
                                                           {"modules_to_save", "lm_head"},
                                                           {"trainable_token_indices", "embed_tokens"},
                                                           {"trainable_token_indices", {-1}},
                                                           {"trainable_token_indices", {1, 1}},
                                                           {"trainable_token_indices", {{"lm_head", 5}}},
                                                           {"ensure_weight_tying", 1},
                                                           {"task_type", "TOKEN_CLS"},
                                                           {"use_dora", 1}};
  for (const auto& [key, value] : wrong) EXPECT_NE(refusal(key, value).find(key), std::string::npos);
  json both = written_by_peft("target_modules", ".*q_proj");
  both["layers_to_transform"] = {0};
  EXPECT_NE(message_of<DataError>([&] { parse(both); }).find("regular expression"), std::string::npos);
  for (const char* text : {"", "[]", "{", "{\"r\": 1, \"r\": 2}", "{}"})
    message_of<DataError>([&] { parse_lora_config(text, "x"); });
  message_of<DataError>([&] { parse_lora_config(std::string(100000, '['), "x"); });
}

}  // namespace
}  // namespace plumb
