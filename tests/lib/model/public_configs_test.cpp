// Every key of the config.json of models that people have is read, known to be harmless, or refused.
#include <gtest/gtest.h>

#include <filesystem>
#include <nlohmann/json.hpp>
#include <set>
#include <stdexcept>

#include "lib/base/check.hpp"
#include "lib/model/families.hpp"
#include "lib/model/left_out.hpp"
#include "lib/model/parameters.hpp"
#include "tests/lib/model/public_expert_configs.hpp"
#include "tests/lib/model/public_gemma_phi_configs.hpp"
#include "tests/lib/model/public_llama_configs.hpp"
#include "tests/lib/model/public_mistral_qwen_configs.hpp"
#include "tests/lib/model/public_others_configs.hpp"
#include "tests/support/reference.hpp"
#include "tests/support/refusal.hpp"

namespace plumb {
namespace {

using nlohmann::json;

std::vector<test::PublicConfig> all_public_configs() {
  std::vector<test::PublicConfig> all;
  const auto append = [&](const auto& rows) { all.insert(all.end(), std::begin(rows), std::end(rows)); };
  append(test::kPublicLlamas);
  append(test::kPublicMistralsAndQwens);
  append(test::kPublicGemmasAndPhis);
  append(test::kOtherPublicModels);
  append(test::kPublicExperts);
  return all;
}

std::string refusal(const json& config) {
  return refusal_of<DataError>([&] { parse_model_config(config.dump(), "config.json"); });
}

/// The rendered text must be the same model, and render the same again.
void expect_same_when_rendered(const ModelConfig& config) {
  const std::string text = render_model_config(config, "bfloat16");
  const ModelConfig again = parse_model_config(text, "rendered");
  EXPECT_EQ(render_model_config(again, "bfloat16"), text);
  EXPECT_EQ(again.sliding_window, config.sliding_window);
  EXPECT_EQ(again.is_unrotated, config.is_unrotated);
  EXPECT_EQ(again.rope, config.rope);
  EXPECT_EQ(again.sliding_rope, config.sliding_rope);
  EXPECT_EQ(again.norm, config.norm);
  EXPECT_EQ(again.logits, config.logits);
  EXPECT_EQ(again.mixture, config.mixture);
  EXPECT_EQ(again.score_scale, config.score_scale);
  EXPECT_EQ(again.eos_token_ids, config.eos_token_ids);
  EXPECT_EQ(num_parameters(unit_layouts(again)), num_parameters(unit_layouts(config)));
}

TEST(PublicConfigs, AreReadAsWhatTheyAre) {
  for (const test::PublicConfig& row : all_public_configs()) {
    SCOPED_TRACE(row.name);
    const std::string text = row.json;
    ASSERT_EQ(refusal_of<DataError>([&] { parse_model_config(text, row.name); }), "accepted");
    const ModelConfig config = parse_model_config(text, row.name);
    EXPECT_EQ(config.num_layers, row.facts.num_layers);
    EXPECT_EQ(config.num_heads, row.facts.num_heads);
    EXPECT_EQ(config.num_kv_heads, row.facts.num_kv_heads);
    EXPECT_EQ(config.head_dim, row.facts.head_dim);
    EXPECT_EQ(config.sliding_window.front(), row.facts.first_window);
    EXPECT_EQ(config.sliding_window.back(), row.facts.last_window);
    EXPECT_EQ(config.rope.kind, row.facts.rope);
    EXPECT_EQ(config.ties_embeddings, row.facts.ties_embeddings);
    if (row.facts.num_parameters > 0) {
      EXPECT_EQ(num_parameters(unit_layouts(config)), row.facts.num_parameters);
    }
    expect_same_when_rendered(config);
  }
}

TEST(PublicConfigs, CoverEveryFamily) {
  std::set<Family> seen;
  for (const test::PublicConfig& row : all_public_configs()) seen.insert(parse_model_config(row.json, row.name).family);
  std::vector<std::string> missing;
  for (const std::string& name : family_names())
    if (!seen.contains(find_family(name)->family)) missing.push_back(name);
  // a public Ministral calls itself mistral, with one window for all layers
  EXPECT_EQ(missing, std::vector<std::string>{"ministral"});
}

json public_json(const std::string& name) {
  for (const test::PublicConfig& row : all_public_configs())
    if (row.name == name) return json::parse(row.json);
  throw std::out_of_range(name);
}

TEST(PublicConfigs, KeysThatTransformersIgnoresMayNotContradictTheModel) {
  struct Case {
    const char* model;
    const char* key;
    json value;
  };
  const Case cases[] = {
      {"HuggingFaceTB/SmolLM2-135M-Instruct", "rope_interleaved", true},
      {"HuggingFaceTB/SmolLM2-135M-Instruct", "is_llama_config", false},
      {"microsoft/Phi-4-mini-instruct", "lm_head_bias", true},
      {"microsoft/Phi-4-mini-instruct", "full_attn_mod", 2},
      {"microsoft/Phi-4-mini-instruct", "interpolate_factor", 4},
      {"CohereLabs/c4ai-command-r7b-12-2024", "use_qk_norm", true},
      {"CohereLabs/c4ai-command-r7b-12-2024", "use_parallel_block", false},
      {"CohereLabs/c4ai-command-r7b-12-2024", "position_embedding_type", "rope_gpt_neox"},
      {"CohereLabs/c4ai-command-r7b-12-2024", "rotary_pct", 0.5},
      {"bigcode/starcoder2-7b", "mlp_type", "gated"},
      {"bigcode/starcoder2-7b", "norm_type", "rms_norm"},
      {"bigcode/starcoder2-7b", "scale_attn_weights", "yes"},
      {"google/gemma-2-2b-it", "a_new_switch", 1},
  };
  for (const Case& c : cases) {
    SCOPED_TRACE(c.key);
    json config = public_json(c.model);
    config[c.key] = c.value;
    expect_contains(refusal(config), {"config.json: ", c.key, "expected", "delete it"});
  }
}

TEST(PublicConfigs, ExpertsThatContradictThemselvesAreRefused) {
  struct Case {
    const char* model;
    const char* key;
    json value;
  };
  const Case cases[] = {
      {"openai/gpt-oss-20b", "experts_per_token", 2},
      {"openai/gpt-oss-20b", "num_experts", 16},
      {"openai/gpt-oss-20b", "num_experts_per_tok", 33},
      {"mistralai/Mixtral-8x7B-Instruct-v0.1", "router_jitter_noise", 0.1},
      {"mistralai/Mixtral-8x7B-Instruct-v0.1", "num_local_experts", 0},
      {"Qwen/Qwen3-30B-A3B", "mlp_only_layers", json::array({48})},
      {"Qwen/Qwen3-30B-A3B", "decoder_sparse_step", 49},
      {"Qwen/Qwen1.5-MoE-A2.7B", "shared_expert_intermediate_size", -1},
  };
  for (const Case& c : cases) {
    json config = public_json(c.model);
    config[c.key] = c.value;
    const std::string text = refusal(config);
    EXPECT_TRUE(text.find("config.json: ") == 0 && text.find("expected") != std::string::npos) << c.key << ": " << text;
  }
}

TEST(PublicConfigs, AnArchitectureThatIsLeftOutIsRefusedWithTheReason) {
  for (const char* model_type : {"qwen3_next", "qwen3_5", "gemma3n", "gemma4", "deepseek_v2", "deepseek_v3", "llama4",
                                 "falcon_h1", "nemotron_h", "lfm2", "granitemoehybrid", "gemma", "glm", "phimoe"})
    EXPECT_FALSE(reason_left_out(model_type).empty()) << model_type;
  EXPECT_TRUE(reason_left_out("an_architecture_of_next_year").empty());
  expect_contains(refusal(json::object({{"model_type", "qwen3_next"}})),
                  {"model_type", "llama", "qwen3_next", "delta net"});
  expect_contains(refusal(json::object({{"model_type", "deepseek_v3"}})), {"deepseek_v3", "latent attention"});
  // a reason ends where support begins
  for (const std::string& name : family_names()) EXPECT_TRUE(reason_left_out(name).empty()) << name;
}

TEST(PublicConfigs, TheTinyModelsOfTheReferenceAreRead) {
  SKIP_WITHOUT_REFERENCE_RECORDS();
  int64_t num_read = 0;
  for (const auto& entry : std::filesystem::directory_iterator(test::reference_file("models"))) {
    const std::string name = entry.path().filename();
    if (!std::filesystem::exists(entry.path() / "config.json")) continue;  // an adapter
    const json source = test::reference_json("models/" + name + "/config.json");
    SCOPED_TRACE(name);
    ASSERT_EQ(refusal(source), "accepted");
    expect_same_when_rendered(parse_model_config(source.dump(), name));
    ++num_read;
  }
  EXPECT_GE(num_read, 29);
}

}  // namespace
}  // namespace plumb
