#include "lib/model/parameters.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <set>
#include <vector>

namespace plumb {
namespace {

ModelConfig config_of(Family family, int64_t vocab, int64_t hidden, int64_t intermediate, int64_t layers, int64_t heads,
                      int64_t kv_heads, int64_t head_dim, bool ties_embeddings) {
  ModelConfig config;
  config.family = family;
  config.vocab_size = vocab;
  config.hidden_size = hidden;
  config.intermediate_size = intermediate;
  config.num_layers = layers;
  config.num_heads = heads;
  config.num_kv_heads = kv_heads;
  config.head_dim = head_dim;
  config.sliding_window.assign(layers, 0);
  config.ties_embeddings = ties_embeddings;
  config.has_qkv_bias = family == Family::kQwen2;
  if (family == Family::kQwen3) config.qk_norm = QkNorm::kHead;
  return config;
}

/// A config without a size that is a multiple of the alignment.
ModelConfig small_config(Family family, bool ties_embeddings) {
  return config_of(family, 53, 30, 46, 3, 6, 2, 5, ties_embeddings);
}

const Family kFamilies[] = {Family::kLlama, Family::kMistral, Family::kQwen2, Family::kQwen3};

const Parameter* find(const UnitLayout& unit, ParameterKind kind) {
  const auto found = std::ranges::find(unit.parameters, kind, &Parameter::kind);
  return found == unit.parameters.end() ? nullptr : &*found;
}
int64_t end_of(const Parameter& parameter) { return parameter.offset + parameter.num_elements(); }

TEST(UnitLayouts, HaveTheParameterCountsOfPublishedModels) {
  using enum Family;
  const auto count = [](const ModelConfig& config) { return num_parameters(unit_layouts(config)); };
  EXPECT_EQ(count(config_of(kLlama, 128256, 2048, 8192, 16, 32, 8, 64, true)), 1235814400) << "Llama 3.2 1B";
  EXPECT_EQ(count(config_of(kLlama, 128256, 4096, 14336, 32, 32, 8, 128, false)), 8030261248) << "Llama 3.1 8B";
  EXPECT_EQ(count(config_of(kMistral, 32000, 4096, 14336, 32, 32, 8, 128, false)), 7241732096) << "Mistral 7B";
  EXPECT_EQ(count(config_of(kQwen2, 151936, 896, 4864, 24, 14, 2, 64, true)), 494032768) << "Qwen2.5 0.5B";
  EXPECT_EQ(count(config_of(kQwen3, 151936, 1024, 3072, 28, 16, 8, 128, true)), 596049920) << "Qwen3 0.6B";
}

TEST(UnitLayouts, AreInForwardOrder) {
  std::vector<std::string> names;
  for (const UnitLayout& unit : unit_layouts(small_config(Family::kLlama, false))) names.push_back(unit.name);
  EXPECT_EQ(names, (std::vector<std::string>{"embedding", "block.0", "block.1", "block.2", "head"}));
  names.clear();
  for (const UnitLayout& unit : unit_layouts(small_config(Family::kLlama, true))) names.push_back(unit.name);
  EXPECT_EQ(names, (std::vector<std::string>{"embedding+head", "block.0", "block.1", "block.2"}));
}

TEST(UnitLayouts, ParametersDoNotOverlapAndFillTheUnit) {
  for (const Family family : kFamilies)
    for (const bool ties : {false, true})
      for (const UnitLayout& unit : unit_layouts(small_config(family, ties))) {
        int64_t end = 0;
        std::set<ParameterKind> kinds;
        for (const Parameter& parameter : unit.parameters) {
          EXPECT_GE(parameter.offset, end) << unit.name;
          EXPECT_LT(parameter.offset - end, kParameterAlignment) << unit.name;
          EXPECT_TRUE(kinds.insert(parameter.kind).second) << unit.name;
          end = end_of(parameter);
        }
        EXPECT_EQ(end, unit.num_elements) << unit.name;
      }
}

TEST(UnitLayouts, MatricesOfOneProductAreAdjacent) {
  using enum ParameterKind;
  const std::set<ParameterKind> followers = {kK, kV, kKBias, kVBias, kUp};
  for (const Family family : kFamilies)
    for (const UnitLayout& unit : unit_layouts(small_config(family, false))) {
      for (size_t i = 0; i < unit.parameters.size(); ++i) {
        const Parameter& parameter = unit.parameters[i];
        if (followers.contains(parameter.kind)) {
          EXPECT_EQ(parameter.offset, end_of(unit.parameters[i - 1])) << unit.name;
        } else {
          EXPECT_EQ(parameter.offset % kParameterAlignment, 0) << unit.name;
        }
      }
      if (!unit.name.starts_with("block")) continue;
      EXPECT_EQ(end_of(*find(unit, kQ)), find(unit, kK)->offset);
      EXPECT_EQ(end_of(*find(unit, kK)), find(unit, kV)->offset);
      EXPECT_EQ(end_of(*find(unit, kGate)), find(unit, kUp)->offset);
    }
}

TEST(UnitLayouts, BlocksHaveTheParametersOfTheirFamily) {
  using enum ParameterKind;
  for (const Family family : kFamilies) {
    const UnitLayout block = unit_layouts(small_config(family, false))[2];
    EXPECT_EQ(find(block, kQBias) != nullptr, family == Family::kQwen2);
    EXPECT_EQ(find(block, kVBias) != nullptr, family == Family::kQwen2);
    EXPECT_EQ(find(block, kQNorm) != nullptr, family == Family::kQwen3);
    EXPECT_EQ(find(block, kKNorm) != nullptr, family == Family::kQwen3);
    EXPECT_EQ(find(block, kOBias), nullptr);
    EXPECT_EQ(find(block, kEmbedding), nullptr);
    EXPECT_EQ(find(block, kQ)->shape, (std::vector<int64_t>{30, 30}));
    EXPECT_EQ(find(block, kK)->shape, (std::vector<int64_t>{10, 30}));
    EXPECT_EQ(find(block, kO)->shape, (std::vector<int64_t>{30, 30}));
    EXPECT_EQ(find(block, kUp)->shape, (std::vector<int64_t>{46, 30}));
    EXPECT_EQ(find(block, kDown)->shape, (std::vector<int64_t>{30, 46}));
    for (const Parameter& parameter : block.parameters) EXPECT_EQ(parameter.layer, 1);
  }
  ModelConfig biased = small_config(Family::kLlama, false);
  biased.has_o_bias = true;
  EXPECT_EQ(find(unit_layouts(biased)[1], kOBias)->shape, (std::vector<int64_t>{30}));
}

TEST(UnitLayouts, TiedEmbeddingAndHeadAreOneMatrix) {
  using enum ParameterKind;
  const auto tied = unit_layouts(small_config(Family::kLlama, true));
  EXPECT_EQ(find(tied[0], kEmbedding)->offset, 0);
  EXPECT_EQ(find(tied[0], kEmbedding)->layer, -1);
  EXPECT_NE(find(tied[0], kFinalNorm), nullptr);
  EXPECT_EQ(find(tied[0], kHead), nullptr);
  const auto untied = unit_layouts(small_config(Family::kLlama, false));
  EXPECT_EQ(find(untied.front(), kFinalNorm), nullptr);
  EXPECT_NE(find(untied.back(), kFinalNorm), nullptr);
  EXPECT_EQ(find(untied.back(), kHead)->shape, (std::vector<int64_t>{53, 30}));
  EXPECT_EQ(num_parameters(untied), num_parameters(tied) + 53 * 30);
}

TEST(Parameter, MatricesAreDecayedNormsAndBiasesAreNot) {
  using enum ParameterKind;
  const std::set<ParameterKind> spared = {kInputNorm, kQBias, kKBias,    kVBias,    kQNorm,
                                          kKNorm,     kOBias, kPostNorm, kFinalNorm};
  for (const Family family : kFamilies)
    for (const UnitLayout& unit : unit_layouts(small_config(family, false)))
      for (const Parameter& parameter : unit.parameters)
        EXPECT_EQ(parameter.is_decayed(), !spared.contains(parameter.kind)) << static_cast<int>(parameter.kind);
}

}  // namespace
}  // namespace plumb
