#include "lib/model/config_keys.hpp"

#include <algorithm>
#include <string_view>

#include "lib/base/check.hpp"

namespace plumb {

using nlohmann::json;

namespace {

struct HarmlessKeys {
  std::string_view reason;
  std::vector<std::string_view> names;
};

const std::vector<HarmlessKeys>& harmless_keys() {
  static const std::vector<HarmlessKeys> keys = {
      {"about the file or the program that wrote it",
       {"auto_map",
        "cache_implementation",
        "chunk_size_feed_forward",
        "custom_pipelines",
        "dtype",
        "torch_dtype",
        "transformers_version",
        "transformers.js_config",
        "unsloth_fixed",
        "unsloth_version",
        "model_name",
        "tokenizer_class",
        "max_sequence_length",
        "model_max_length",
        "torchscript",
        "tf_legacy_loss",
        "use_bfloat16",
        "name_or_path",
        "task_specific_params",
        "finetuning_task"}},
      {"what a forward pass returns, or how it runs",
       {"output_attentions", "output_hidden_states", "output_router_logits", "return_dict", "use_cache",
        "use_flash_attn", "attn_implementation", "pretraining_tp", "is_decoder", "gradient_checkpointing",
        "use_return_dict", "keys_to_ignore_at_inference", "return_dict_in_generate"}},
      {"of text generation, which options and generation_config.json decide",
       {"bad_words_ids",
        "begin_suppress_tokens",
        "decoder_start_token_id",
        "diversity_penalty",
        "do_sample",
        "early_stopping",
        "encoder_no_repeat_ngram_size",
        "exponential_decay_length_penalty",
        "forced_bos_token_id",
        "forced_eos_token_id",
        "length_penalty",
        "max_length",
        "max_new_tokens",
        "min_length",
        "no_repeat_ngram_size",
        "num_beam_groups",
        "num_beams",
        "num_return_sequences",
        "output_scores",
        "prefix",
        "remove_invalid_values",
        "repetition_penalty",
        "sep_token_id",
        "suppress_tokens",
        "temperature",
        "top_k",
        "top_p",
        "typical_p",
        "unk_token_id",
        "image_token_id"}},
      {"of other kinds of models",
       {"cross_attention_hidden_size", "is_encoder_decoder", "pruned_heads", "tie_encoder_decoder", "type_vocab_size"}},
      {"of the labels of a classifier", {"classifier_dropout", "label2id", "num_labels", "problem_type"}},
      {"dropout, which is off in fine-tuning unless an option asks for it",
       {"attention_dropout", "attn_dropout", "embd_pdrop", "embedding_dropout", "hidden_dropout", "resid_pdrop",
        "residual_dropout", "hidden_dropout_prob", "attention_probs_dropout_prob"}},
      {"of another family, which this one does not read",
       {"max_window_layers", "mlp_bias", "attention_bias", "use_sliding_window", "sliding_window", "layer_types",
        "head_dim", "original_max_position_embeddings", "attn_logit_softcapping", "hidden_act",
        "sliding_window_pattern"}},
      {"of gpt-oss, said elsewhere: the length before YaRN, which transformers takes from its RoPE numbers",
       {"initial_context_length"}},
  };
  return keys;
}

/// Keys of the programs that trained a model, which transformers does not read. They are harmless only if they say what
/// the family does anyway.
struct FixedKey {
  std::string_view model_type;  // empty: any
  std::string_view name;
  std::vector<json> values;
};

const std::vector<FixedKey>& fixed_keys() {
  static const std::vector<FixedKey> keys = {
      {"llama", "is_llama_config", {true}},
      {"llama", "rope_interleaved", {false}},
      {"", "lm_head_bias", {false}},
      {"gemma2", "sliding_window_size", {4096}},
      {"phi3", "full_attn_mod", {1}},
      {"phi3", "interpolate_factor", {1}},
      {"cohere2", "layer_switch", {4}},
      {"cohere2", "order_of_interleaved_layers", {"local_attn_first"}},
      {"cohere2", "position_embedding_type", {"rope_gptj"}},
      {"cohere2", "rotary_pct", {1}},
      {"cohere2", "use_embedding_sharing", {true}},
      {"cohere2", "use_gated_activation", {true}},
      {"cohere2", "use_parallel_block", {true}},
      {"cohere2", "use_parallel_embedding", {false}},
      {"cohere2", "use_qk_norm", {false}},
      {"starcoder2", "activation_function", {"gelu", "gelu_pytorch_tanh"}},
      {"starcoder2", "attention_softmax_in_fp32", {true, false}},
      {"starcoder2", "layer_norm_epsilon", {1e-5}},
      {"starcoder2", "mlp_type", {"default"}},
      {"starcoder2", "norm_type", {"layer_norm"}},
      {"starcoder2", "scale_attention_softmax_in_fp32", {true, false}},
      {"starcoder2", "scale_attn_weights", {true}},
  };
  return keys;
}

/// Null if there is none.
const FixedKey* find_fixed_key(std::string_view model_type, std::string_view name) {
  for (const FixedKey& key : fixed_keys())
    if (key.name == name && (key.model_type.empty() || key.model_type == model_type)) return &key;
  return nullptr;
}

void check_fixed_key(const ConfigReader& reader, const FixedKey& key) {
  const json& value = reader.object().at(std::string(key.name));
  if (std::find(key.values.begin(), key.values.end(), value) != key.values.end()) return;
  reader.fail(std::string(key.name).c_str(),
              fmt::format("{}, as transformers does not read this key and builds a model without such a difference; "
                          "delete it from the file if the weights fit that model",
                          quote_json(key.values.front())));
}

bool is_harmless(std::string_view name) {
  if (name.starts_with("_")) return true;  // private to the class that wrote it
  return std::any_of(harmless_keys().begin(), harmless_keys().end(), [&](const HarmlessKeys& keys) {
    return std::find(keys.names.begin(), keys.names.end(), name) != keys.names.end();
  });
}

}  // namespace

void refuse_unknown_keys(const ConfigReader& reader) {
  const std::string model_type = reader.string_or("model_type", "");
  for (const std::string& key : reader.unread()) {
    const json& value = reader.object().at(key);
    if (is_harmless(key) || value.is_null()) continue;
    if (const FixedKey* fixed = find_fixed_key(model_type, key)) {
      check_fixed_key(reader, *fixed);
      continue;
    }
    reader.fail(key.c_str(),
                "a key that plumb knows, as this one may change the model; delete it from the file if it does not");
  }
}

}  // namespace plumb
