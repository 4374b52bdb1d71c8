#include "io/huggingface/peft_targets.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <set>

#include "lib/base/check.hpp"
#include "tests/io/huggingface/tiny_model.hpp"
#include "tests/support/refusal.hpp"

namespace plumb {
namespace {

using enum ParameterKind;
using Kinds = std::set<ParameterKind>;

const Kinds kLinear = {kQ, kK, kV, kO, kGate, kUp, kDown};

ModelConfig model_of(bool ties_embeddings = false, HeadKind head = HeadKind::kLanguageModel) {
  ModelConfig config = tiny_config(Family::kLlama, ties_embeddings);
  config.head = head;
  return config;
}

LoraConfig lora(ModuleSelection targets) { return {.r = 2, .lora_alpha = 6, .target_modules = std::move(targets)}; }

/// The kinds of matrices that are adapted in a layer.
Kinds kinds_in(const Adapter& adapter, int64_t layer) {
  Kinds kinds;
  for (const LoraTarget& target : adapter.targets)
    if (target.layer == layer) kinds.insert(target.kind);
  return kinds;
}

TEST(PeftTargets, AreNamedByPath) {
  EXPECT_EQ(module_path(model_of(), kQ, 3), "model.layers.3.self_attn.q_proj");
  EXPECT_EQ(module_path(model_of(), kHead, -1), "lm_head");
  EXPECT_EQ(linear_module_names(model_of()),
            (std::vector<std::string>{"down_proj", "gate_proj", "k_proj", "o_proj", "q_proj", "up_proj", "v_proj"}));
  ModelConfig fused = model_of();
  fused.family = Family::kPhi3;
  fused.has_fused_qkv = fused.has_fused_gate_up = true;
  EXPECT_EQ(linear_module_names(fused), (std::vector<std::string>{"down_proj", "gate_up_proj", "o_proj", "qkv_proj"}));
  EXPECT_EQ(attention_module_names(fused), (std::vector<std::string>{"o_proj", "qkv_proj"}));
  LoraConfig all = lora({{}, "all-linear"});
  name_all_linear(all, fused);
  EXPECT_EQ(all.target_modules.names, linear_module_names(fused));
}

TEST(PeftTargets, ListSelectsByTheEndOfThePath) {
  const Adapter adapter =
      resolve_adapter(lora({{"model.layers.1.mlp.down_proj", "q_proj", "self_attn.v_proj"}, ""}), model_of());
  EXPECT_EQ(kinds_in(adapter, 0), (Kinds{kQ, kV}));
  EXPECT_EQ(kinds_in(adapter, 1), (Kinds{kQ, kV, kDown}));
  EXPECT_EQ(adapter.targets.front(), (LoraTarget{kQ, 0, 2, 3.0}));
}

TEST(PeftTargets, AreOrderedByLayerAndKind) {
  const Adapter a = resolve_adapter(lora({{"down_proj", "q_proj", "k_proj"}, ""}), model_of());
  EXPECT_EQ(a, resolve_adapter(lora({{"k_proj", "q_proj", "down_proj"}, ""}), model_of()));
  for (size_t i = 1; i < a.targets.size(); ++i)
    EXPECT_LT(std::pair(a.targets[i - 1].layer, a.targets[i - 1].kind),
              std::pair(a.targets[i].layer, a.targets[i].kind));
}

TEST(PeftTargets, RegularExpressionMatchesTheWholePath) {
  const Adapter adapter = resolve_adapter(lora({{}, R"(.*layers\.1\..*\.(q_proj|up_proj))"}), model_of());
  EXPECT_EQ(kinds_in(adapter, 0), Kinds{});
  EXPECT_EQ(kinds_in(adapter, 1), (Kinds{kQ, kUp}));
  message_of<UsageError>([] { resolve_adapter(lora({{}, "q_proj"}), model_of()); });  // not a whole path
}

TEST(PeftTargets, AllLinearSelectsBlocksOnly) {
  for (const HeadKind head : {HeadKind::kLanguageModel, HeadKind::kScore})
    for (const char* word : {"all-linear", "All-Linear"}) {
      const Adapter adapter = resolve_adapter(lora({{}, word}), model_of(false, head));
      EXPECT_EQ(kinds_in(adapter, 0), kLinear);
      EXPECT_EQ(kinds_in(adapter, 1), kLinear);
      EXPECT_TRUE(adapter.whole.empty());
    }
}

TEST(PeftTargets, MayBeExcludedOrLimitedToLayers) {
  LoraConfig config = lora({{}, "all-linear"});
  config.exclude_modules = {{"v_proj", "model.layers.0.mlp.up_proj"}, ""};
  EXPECT_EQ(kinds_in(resolve_adapter(config, model_of()), 0), (Kinds{kQ, kK, kO, kGate, kDown}));
  EXPECT_EQ(kinds_in(resolve_adapter(config, model_of()), 1), (Kinds{kQ, kK, kO, kGate, kUp, kDown}));
  config.exclude_modules = {{}, ".*mlp.*"};
  EXPECT_EQ(kinds_in(resolve_adapter(config, model_of()), 0), (Kinds{kQ, kK, kV, kO}));
  config = lora({{"q_proj"}, ""});
  config.layers_to_transform = {1};
  EXPECT_EQ(kinds_in(resolve_adapter(config, model_of()), 0), Kinds{});
  EXPECT_EQ(kinds_in(resolve_adapter(config, model_of()), 1), Kinds{kQ});
}

TEST(PeftTargets, FirstMatchingPatternSetsRankAndAlpha) {
  LoraConfig config = lora({{"q_proj", "k_proj", "v_proj"}, ""});
  config.rank_pattern = {{"k_proj", 3}, {"layers.1.self_attn.[kv]_proj", 5}, {"_proj", 6}};  // "_proj": no whole name
  config.alpha_pattern = {{"model.layers.0.self_attn.q_proj", 1}};
  const Adapter adapter = resolve_adapter(config, model_of());
  const std::vector<LoraTarget> expected = {{kQ, 0, 2, 0.5}, {kK, 0, 3, 2}, {kV, 0, 2, 3},
                                            {kQ, 1, 2, 3},   {kK, 1, 3, 2}, {kV, 1, 5, 1.2}};
  EXPECT_EQ(adapter.targets, expected);
  std::swap(config.rank_pattern[0], config.rank_pattern[1]);
  EXPECT_EQ(resolve_adapter(config, model_of()).targets[4], (LoraTarget{kK, 1, 5, 1.2}));
  std::swap(config.rank_pattern[0], config.rank_pattern[1]);
  config.uses_rslora = true;
  EXPECT_EQ(resolve_adapter(config, model_of()).targets[1].scaling, 6 / std::sqrt(3.0));
}

TEST(PeftTargets, KeepDoraAndDropout) {
  LoraConfig config = lora({{"q_proj"}, ""});
  config.uses_dora = true;
  config.lora_dropout = 0.25;
  const Adapter adapter = resolve_adapter(config, model_of());
  EXPECT_TRUE(adapter.has_magnitudes);
  EXPECT_EQ(adapter.dropout, 0.25);
}

ModelConfig mixture_model() {
  ModelConfig config = model_of();
  config.family = Family::kQwen2Moe;
  config.mixture.num_experts = 3, config.mixture.num_chosen = 2;
  config.mixture.expert_size = 5, config.mixture.shared_expert_size = 7;
  config.mixture.is_dense = {true, false};
  return config;
}

TEST(PeftTargets, ExpertsAreParametersWithARankForEach) {
  LoraConfig config = lora({{"q_proj"}, ""});
  config.target_parameters = {"mlp.experts.down_proj", "mlp.experts.gate_up_proj"};
  const Adapter adapter = resolve_adapter(config, mixture_model());
  EXPECT_EQ(adapter.targets,
            (std::vector<LoraTarget>{
                {kQ, 0, 2, 3.0}, {kQ, 1, 2, 3.0}, {kExpertsGateUp, 1, 6, 3.0}, {kExpertsDown, 1, 6, 3.0}}));
  config.target_modules = {};
  EXPECT_EQ(resolve_adapter(config, mixture_model()).targets.size(), 2u);
  config.rank_pattern = {{"experts.down_proj", 4}};
  EXPECT_EQ(resolve_adapter(config, mixture_model()).targets.back(), (LoraTarget{kExpertsDown, 1, 12, 1.5}));
}

TEST(PeftTargets, ExpertsAreNotAdaptedByHalvesOrWithWhatPeftRefuses) {
  const auto refusal = [](LoraConfig config, const ModelConfig& model) {
    return refusal_of<UsageError>([&] { resolve_adapter(config, model); });
  };
  LoraConfig config = lora({{"q_proj"}, ""});
  config.target_parameters = {"gate_up_proj"};
  expect_contains(refusal(config, mixture_model()), {"target_parameters", "both"});
  expect_contains(refusal(config, model_of()), {"target_parameters", "gate_up_proj", "target_modules"});
  config.target_parameters = {"gate_up_proj", "down_proj"};
  EXPECT_EQ(refusal(config, mixture_model()), "accepted");
  config.lora_dropout = 0.1;
  expect_contains(refusal(config, mixture_model()), {"lora_dropout"});
  config.lora_dropout = 0;
  config.uses_dora = true;
  expect_contains(refusal(config, mixture_model()), {"DoRA"});
}

TEST(PeftTargets, OfAMixtureAreAttentionDenseLayersAndTheSharedExpert) {
  EXPECT_EQ(linear_module_names(mixture_model()), linear_module_names(model_of()));
  const Adapter adapter = resolve_adapter(lora({{}, "all-linear"}), mixture_model());
  EXPECT_EQ(kinds_in(adapter, 0), kLinear);
  EXPECT_EQ(kinds_in(adapter, 1), (Kinds{kQ, kK, kV, kO, kSharedGate, kSharedUp, kSharedDown}));
}

TEST(PeftTargets, UnknownNameListsTheExistingOnes) {
  expect_contains(message_of<UsageError>([] {
                    resolve_adapter(lora({{"q_proj", "query"}, ""}), model_of());
                  }),
                  {"target_modules: query", "q_proj", "down_proj", "gate_proj", "all-linear"});
  expect_contains(message_of<UsageError>([] {
                    resolve_adapter(lora({{"q_prj"}, ""}), model_of());
                  }),
                  {"did you mean q_proj"});
  expect_contains(message_of<UsageError>([] {
                    resolve_adapter(lora({{}, ".*c_attn"}), model_of());
                  }),
                  {"none that matches", "q_proj"});
  message_of<UsageError>([] { resolve_adapter(lora({}), model_of()); });
}

TEST(PeftTargets, MayBeEmbeddingAndHeadButNoScoreAndNotWithMagnitudes) {
  const Adapter both = resolve_adapter(lora({{}, "lm_head|.*embed_tokens|.*q_proj"}), model_of());
  EXPECT_EQ(both.outer_targets, (std::vector<LoraTarget>{{kEmbedding, -1, 2, 3.0}, {kHead, -1, 2, 3.0}}));
  EXPECT_EQ(kinds_in(both, 0), Kinds{kQ});
  EXPECT_TRUE(resolve_adapter(lora({{"lm_head"}, ""}), model_of()).targets.empty());
  LoraConfig saved = lora({{"lm_head", "q_proj"}, ""});
  saved.modules_to_save = {"lm_head"};
  EXPECT_EQ(kinds_in(resolve_adapter(saved, model_of()), 0), Kinds{kQ});
  EXPECT_TRUE(resolve_adapter(saved, model_of()).outer_targets.empty());
  ModelConfig reward = model_of();
  reward.head = HeadKind::kScore;
  expect_contains(message_of<UsageError>([&] {
                    resolve_adapter(lora({{"score", "q_proj"}, ""}), reward);
                  }),
                  {"target_modules: score", "trained whole"});
  LoraConfig dora = lora({{"lm_head", "q_proj"}, ""});
  dora.uses_dora = true;
  expect_contains(message_of<UsageError>([&] { resolve_adapter(dora, model_of()); }),
                  {"use_dora", "lm_head", "lora_modules_to_save lm_head"});
}

TEST(PeftTargets, RankMayBeAboveTheSmallerSide) {
  LoraConfig config = lora({{"q_proj", "k_proj"}, ""});
  config.rank_pattern = {{"k_proj", 7}};  // of a matrix of [6, 12]
  const Adapter adapter = resolve_adapter(config, model_of());
  EXPECT_EQ(adapter.targets[1].rank, 7);
}

TEST(FinishedAdapter, LeaveOutWhatTheModelLacks) {
  LoraConfig config = lora({{"q_proj", "w1", "c_attn"}, ""});
  config.modules_to_save = {"wte", "lm_head", "norm"};
  const Adapter parts = resolve_finished(config, model_of());
  EXPECT_EQ(kinds_in(parts, 0), Kinds{kQ});
  EXPECT_EQ(parts.whole, std::vector{kHead});
  EXPECT_EQ(unknown_modules(config, model_of()), (std::vector<std::string>{"w1", "c_attn", "wte"}));
  message_of<UsageError>([] { resolve_finished(lora({{"w1"}, ""}), model_of()); });
}

TEST(FinishedAdapter, MayBeOfEmbeddingAndHead) {
  LoraConfig config = lora({{"q_proj", "embed_tokens", "lm_head"}, ""});
  config.rank_pattern = {{"lm_head", 3}};
  Adapter parts = resolve_finished(config, model_of());
  EXPECT_EQ(parts.outer_targets, (std::vector<LoraTarget>{{kEmbedding, -1, 2, 3.0}, {kHead, -1, 3, 2.0}}));
  EXPECT_EQ(kinds_in(parts, 0), Kinds{kQ});
  config.layers_to_transform = {0};  // of blocks; "lm_head" is a whole path, "embed_tokens" is not
  EXPECT_EQ(resolve_finished(config, model_of()).outer_targets, (std::vector<LoraTarget>{{kHead, -1, 3, 2.0}}));
  config.layers_to_transform = {};
  config.exclude_modules = {{"lm_head"}, ""};
  EXPECT_EQ(resolve_finished(config, model_of()).outer_targets.size(), 1u);
  config = lora({{}, "lm_head|.*q_proj"});
  EXPECT_EQ(resolve_finished(config, model_of()).outer_targets, (std::vector<LoraTarget>{{kHead, -1, 2, 3.0}}));
  config.token_rows = {{"embed_tokens", {4, 2}}};
  EXPECT_EQ(resolve_finished(config, model_of()).rows, (std::vector<AdapterRows>{{kEmbedding, {4, 2}}}));
}

TEST(FinishedAdapter, AreNotBesideWhatIsTrainedWhole) {
  LoraConfig config = lora({{}, "all-linear"});
  config.modules_to_save = {"layers.0.mlp"};
  const Adapter parts = resolve_finished(config, model_of());
  EXPECT_EQ(kinds_in(parts, 0), (Kinds{kQ, kK, kV, kO}));
  EXPECT_EQ(kinds_in(parts, 1), kLinear);
}

TEST(FinishedAdapter, ThatContradictEachOtherAreRefused) {
  const auto refusal = [](const LoraConfig& config, bool is_tied = false) {
    return message_of<UsageError>([&] { resolve_finished(config, adapted_model(config, model_of(is_tied))); });
  };
  LoraConfig config = lora({{"q_proj"}, ""});
  config.token_rows = {{"embed_tokens", {3}}};
  config.modules_to_save = {"embed_tokens"};
  expect_contains(refusal(config), {"trainable_token_indices: embed_tokens", "without modules_to_save"});
  config.modules_to_save = {};
  config.target_modules.names.push_back("embed_tokens");
  expect_contains(refusal(config), {"trainable_token_indices: embed_tokens", "without target_modules"});
  config = lora({{"q_proj"}, ""});
  config.token_rows = {{"wte", {3}}};
  expect_contains(refusal(config), {"wte: no such module", "embed_tokens and lm_head"});
  config.token_rows = {{"embed_tokens", {11}}};
  expect_contains(refusal(config), {"tokens below 11, got 11", "resized"});
  config.token_rows = {{"embed_tokens", {1}}, {"lm_head", {2}}};
  EXPECT_EQ(refusal_of<UsageError>([&] { resolve_finished(config, model_of()); }), kAccepted);
  config.ensures_tying = true;
  expect_contains(refusal(config, true), {"to be the same, as they are one matrix"});
  config = lora({{"q_proj", "embed_tokens"}, ""});
  config.uses_dora = true;
  expect_contains(refusal(config), {"use_dora", "embedding", "merge_and_unload"});
}

/// Whether embedding and head of a tied base stay one matrix.
bool stays_tied(const LoraConfig& config) { return adapted_model(config, model_of(true)).shares_head(); }

TEST(TiedBase, IsSplitByWhatChangesOneOfTheTwo) {
  LoraConfig config = lora({{"q_proj"}, ""});
  EXPECT_TRUE(stays_tied(config));
  for (const char* name : {"lm_head", "embed_tokens", "model.embed_tokens"}) {
    config = lora({{"q_proj"}, ""});
    config.modules_to_save = {name};
    EXPECT_FALSE(stays_tied(config)) << name;
    config.ensures_tying = true;
    EXPECT_TRUE(stays_tied(config)) << name;
    EXPECT_EQ(resolve_finished(config, model_of(true)).whole, std::vector{kEmbedding}) << name;
    config = lora({{"q_proj", name}, ""});
    EXPECT_FALSE(stays_tied(config)) << name;
    config.ensures_tying = true;
    EXPECT_TRUE(stays_tied(config)) << name;
    EXPECT_EQ(resolve_finished(config, model_of(true)).outer_targets,
              (std::vector<LoraTarget>{{kEmbedding, -1, 2, 3.0}}));
  }
  config = lora({{}, "all-linear"});
  EXPECT_TRUE(stays_tied(config));
}

TEST(TiedBase, IsSplitByRowsOfTheHeadThatTheEmbeddingHasNot) {
  LoraConfig config = lora({{"q_proj"}, ""});
  config.token_rows = {{"embed_tokens", {9, 3}}};
  EXPECT_TRUE(stays_tied(config));
  config.token_rows = {{"embed_tokens", {9, 3}}, {"lm_head", {9, 3}}};
  EXPECT_TRUE(stays_tied(config));
  EXPECT_EQ(resolve_finished(config, model_of(true)).rows, (std::vector<AdapterRows>{{kEmbedding, {9, 3}}}));
  config.token_rows = {{"embed_tokens", {9, 3}}, {"lm_head", {3, 9}}};
  EXPECT_FALSE(stays_tied(config));
  config.token_rows = {{"lm_head", {9, 3}}};
  EXPECT_FALSE(stays_tied(config));
}

TEST(ModulesToSave, AreEmbeddingHeadAndScore) {
  LoraConfig config = lora({{"q_proj"}, ""});
  config.modules_to_save = {"lm_head", "model.embed_tokens"};
  EXPECT_EQ(resolve_adapter(config, model_of()).whole, (std::vector{kEmbedding, kHead}));
  config.modules_to_save = {"embed_tokens"};
  EXPECT_EQ(resolve_adapter(config, model_of()).whole, std::vector{kEmbedding});
  config.modules_to_save = {"norm"};
  expect_contains(message_of<UsageError>([&] { resolve_adapter(config, model_of()); }),
                  {"norm", "embed_tokens", "lm_head", "score"});
  config.modules_to_save = {"score"};
  message_of<UsageError>([&] { resolve_adapter(config, model_of()); });
}

TEST(ModulesToSave, ClassifierContainsScoreAsInPeft) {
  const ModelConfig model = model_of(true, HeadKind::kScore);
  LoraConfig config = lora({{"q_proj"}, ""});
  config.task_type = "SEQ_CLS";
  EXPECT_EQ(resolve_adapter(config, model).whole, std::vector{kScore});
  config.modules_to_save = {"classifier", "score"};
  EXPECT_EQ(resolve_adapter(config, model).whole, std::vector{kScore});
  config.modules_to_save = {"embed_tokens"};  // shared with nothing here
  EXPECT_EQ(resolve_adapter(config, model).whole, (std::vector{kEmbedding, kScore}));
}

TEST(HostilePatterns, Terminate) {
  ModelConfig deep = model_of();
  deep.num_layers = 200;
  for (const char* pattern : {".*.*.*.*.*.*[xz]", "((m+o*d*)+)+$", "(a|", "(?R)", "\\C", "(?{1})", "[[:x:]]"}) {
    message_of<std::exception>([&] { resolve_adapter(lora({{}, pattern}), deep); });
    LoraConfig config = lora({{"q_proj"}, ""});
    config.exclude_modules = {{}, pattern};
    try {
      resolve_adapter(config, deep);
    } catch (const DataError&) {
    }
  }
  LoraConfig many = lora({{"q_proj"}, ""});
  for (int i = 0; i < 10000; ++i) many.rank_pattern.emplace_back(fmt::format(".*x{}", i), 1);
  expect_contains(message_of<DataError>([&] { resolve_adapter(many, deep); }), {"rank_pattern", "got 10000"});
}

}  // namespace
}  // namespace plumb
