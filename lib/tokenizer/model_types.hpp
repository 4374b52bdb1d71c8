// The tokenizer classes that transformers 5.23 registers for model types: those of language models with BPE.
// Source: TOKENIZER_MAPPING_NAMES and MODELS_WITH_INCORRECT_HUB_TOKENIZER_CLASS of its tokenization_auto.py.
#pragma once

#include <algorithm>
#include <array>
#include <string_view>

namespace plumb {

struct RegisteredClass {
  std::string_view model_type;
  std::string_view tokenizer_class;  // "": tokenizer.json as it is written
};

inline constexpr auto kRegisteredClasses = std::to_array<RegisteredClass>({
    {"aria", ""},
    {"aya_vision", "CohereTokenizer"},
    {"code_llama", "CodeLlamaTokenizer"},
    {"codegen", "GPT2Tokenizer"},
    {"cohere", "CohereTokenizer"},
    {"cohere2", "CohereTokenizer"},
    {"dbrx", "GPT2Tokenizer"},
    {"falcon_mamba", "GPTNeoXTokenizer"},
    {"flex_olmo", ""},
    {"gemma", "GemmaTokenizer"},
    {"gemma2", "GemmaTokenizer"},
    {"gemma3", "GemmaTokenizer"},
    {"gemma3_text", "GemmaTokenizer"},
    {"gemma3n", "GemmaTokenizer"},
    {"gemma3n_text", "GemmaTokenizer"},
    {"glm", ""},
    {"glm4", ""},
    {"glm4_moe", ""},
    {"glm4_moe_lite", ""},
    {"gpt2", "GPT2Tokenizer"},
    {"gpt_bigcode", ""},
    {"gpt_neo", "GPT2Tokenizer"},
    {"gpt_neox", "GPTNeoXTokenizer"},
    {"gptj", "GPT2Tokenizer"},
    {"granite", ""},
    {"granitemoe", ""},
    {"granitemoehybrid", ""},
    {"granitemoeshared", ""},
    {"idefics", "LlamaTokenizer"},
    {"idefics2", "LlamaTokenizer"},
    {"internvl", "Qwen2Tokenizer"},
    {"jais2", "GPT2Tokenizer"},
    {"kimi_k25", ""},
    {"kimi_linear", ""},
    {"mamba", "GPTNeoXTokenizer"},
    {"mamba2", "GPTNeoXTokenizer"},
    {"mimo_v2_flash", ""},
    {"ministral", ""},
    {"ministral3", ""},
    {"mistral", ""},
    {"mistral3", ""},
    {"mistral_large4", ""},
    {"mixtral", ""},
    {"mpt", "GPTNeoXTokenizer"},
    {"olmo", "GPTNeoXTokenizer"},
    {"olmo2", ""},
    {"olmo3", ""},
    {"olmo_hybrid", ""},
    {"olmoe", "GPTNeoXTokenizer"},
    {"opt", "GPT2Tokenizer"},
    {"persimmon", ""},
    {"phi", "GPT2Tokenizer"},
    {"pixtral", ""},
    {"qwen2", "Qwen2Tokenizer"},
    {"qwen2_5_vl", "Qwen2Tokenizer"},
    {"qwen2_moe", "Qwen2Tokenizer"},
    {"qwen2_vl", "Qwen2Tokenizer"},
    {"qwen3", "Qwen2Tokenizer"},
    {"qwen3_5", "Qwen3_5Tokenizer"},
    {"qwen3_5_moe", "Qwen3_5Tokenizer"},
    {"qwen3_5_moe_text", "Qwen3_5Tokenizer"},
    {"qwen3_5_text", "Qwen3_5Tokenizer"},
    {"qwen3_moe", "Qwen2Tokenizer"},
    {"qwen3_next", "Qwen2Tokenizer"},
    {"qwen3_vl", "Qwen2Tokenizer"},
    {"qwen3_vl_moe", "Qwen2Tokenizer"},
    {"qwen4_exp", "Qwen3_5Tokenizer"},
    {"recurrent_gemma", "GemmaTokenizer"},
    {"rwkv", "GPTNeoXTokenizer"},
    {"shieldgemma2", "GemmaTokenizer"},
    {"stablelm", ""},
    {"starcoder2", "GPT2Tokenizer"},
    {"t5gemma", "GemmaTokenizer"},
    {"voxtral", ""},
    {"xlstm", "GPTNeoXTokenizer"},
    {"zaya", "GemmaTokenizer"},
});

/// The class that tokenizer_config.json names for these types is wrong: the registered one counts, or none.
inline constexpr auto kTypesWithWrongClass = std::to_array<std::string_view>({"arctic",
                                                                              "chatlm",
                                                                              "ernie4_5",
                                                                              "ernie4_5_moe",
                                                                              "fuyu",
                                                                              "h2ovl_chat",
                                                                              "hyperclovax",
                                                                              "hyperclovax_vlm",
                                                                              "internlm2",
                                                                              "internlm3",
                                                                              "iquestcoder",
                                                                              "jamba",
                                                                              "llava",
                                                                              "llava_next",
                                                                              "minicpm3",
                                                                              "minicpmv",
                                                                              "minimax_m2",
                                                                              "modernbert",
                                                                              "modernbert-decoder",
                                                                              "molmo",
                                                                              "molmo2",
                                                                              "nemotron",
                                                                              "nvfp4",
                                                                              "opencua",
                                                                              "openvla",
                                                                              "paddleocr_vl",
                                                                              "phi3",
                                                                              "phi3_v",
                                                                              "phimoe",
                                                                              "qwen2",
                                                                              "qwen3_5",
                                                                              "qwen3_5_moe",
                                                                              "qwen3_5_moe_text",
                                                                              "qwen4_exp",
                                                                              "step3_vl",
                                                                              "vipllava",
                                                                              "smolvlm"});

inline bool has_wrong_class(std::string_view model_type) {
  return std::find(kTypesWithWrongClass.begin(), kTypesWithWrongClass.end(), model_type) != kTypesWithWrongClass.end();
}

/// Null: nothing is registered for the type.
inline const RegisteredClass* find_registered_class(std::string_view model_type) {
  static constexpr RegisteredClass kPlain = {"", ""};
  for (const RegisteredClass& registered : kRegisteredClasses)
    if (registered.model_type == model_type) return &registered;
  return has_wrong_class(model_type) ? &kPlain : nullptr;
}

}  // namespace plumb
