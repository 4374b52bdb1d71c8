#include "lib/model/left_out.hpp"

#include <utility>

namespace plumb {

namespace {

constexpr std::string_view kExperts = "a mixture of experts, which plumb does not train yet";
constexpr std::string_view kSigmoidRouter =
    "a mixture of experts whose router is a sigmoid with a correction, which plumb does not train";
constexpr std::string_view kDeltaNet = "most of its layers are a gated delta net with a short convolution";
constexpr std::string_view kPerLayerEmbeddings = "its layers have embeddings of their own and share keys and values";
constexpr std::string_view kLatentAttention = "its attention is multi-head latent attention";
constexpr std::string_view kMamba = "some of its layers are Mamba-2, a state space model";
constexpr std::string_view kChunkedAttention = "its attention is chunked and its router scales the input of one expert";
constexpr std::string_view kConvolutions = "most of its layers are short convolutions";
constexpr std::string_view kImages = "a model of images and texts, of which plumb trains none of this type";
constexpr std::string_view kNotYet = "a dense decoder that plumb does not train yet";

constexpr std::pair<std::string_view, std::string_view> kLeftOut[] = {
    {"olmoe", kExperts},
    {"granitemoe", kExperts},
    {"granitemoeshared", kExperts},
    {"phimoe", kExperts},
    {"glm4_moe", kSigmoidRouter},
    {"dots1", kSigmoidRouter},
    {"minimax_m2", kSigmoidRouter},
    {"qwen3_next", kDeltaNet},
    {"qwen3_5", kDeltaNet},
    {"qwen3_5_text", kDeltaNet},
    {"qwen3_5_moe", kDeltaNet},
    {"qwen3_5_moe_text", kDeltaNet},
    {"gemma3n", kPerLayerEmbeddings},
    {"gemma3n_text", kPerLayerEmbeddings},
    {"gemma4", kPerLayerEmbeddings},
    {"gemma4_text", kPerLayerEmbeddings},
    {"deepseek_v2", kLatentAttention},
    {"deepseek_v3", kLatentAttention},
    {"kimi_k2", kLatentAttention},
    {"mistral4", kLatentAttention},
    {"granitemoehybrid", kMamba},
    {"nemotron_h", kMamba},
    {"falcon_h1", kMamba},
    {"llama4", kChunkedAttention},
    {"llama4_text", kChunkedAttention},
    {"lfm2", kConvolutions},
    {"lfm2_moe", kConvolutions},
    {"mistral3", kImages},
    {"mllama", kImages},
    {"qwen2_vl", kImages},
    {"qwen2_5_vl", kImages},
    {"qwen3_vl", kImages},
    {"gemma", kNotYet},
    {"cohere", kNotYet},
    {"glm", kNotYet},
    {"exaone4", kNotYet},
    {"seed_oss", kNotYet},
    {"arcee", kNotYet},
    {"ministral3", kNotYet},
};

}  // namespace

std::string_view reason_left_out(std::string_view model_type) {
  for (const auto& [name, reason] : kLeftOut)
    if (name == model_type) return reason;
  return {};
}

}  // namespace plumb
