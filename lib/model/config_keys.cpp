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
       {"auto_map", "cache_implementation", "chunk_size_feed_forward", "custom_pipelines", "dtype", "torch_dtype",
        "transformers_version", "transformers.js_config", "unsloth_fixed", "unsloth_version", "model_name",
        "tokenizer_class", "torchscript", "tf_legacy_loss", "use_bfloat16", "name_or_path", "task_specific_params",
        "finetuning_task"}},
      {"what a forward pass returns, or how it runs",
       {"output_attentions", "output_hidden_states", "return_dict", "use_cache", "use_flash_attn",
        "attn_implementation", "pretraining_tp", "is_decoder", "gradient_checkpointing", "use_return_dict",
        "keys_to_ignore_at_inference", "return_dict_in_generate"}},
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
        "head_dim", "original_max_position_embeddings", "attn_logit_softcapping", "hidden_act"}},
  };
  return keys;
}

bool is_harmless(std::string_view name) {
  if (name.starts_with("_")) return true;  // private to the class that wrote it
  return std::any_of(harmless_keys().begin(), harmless_keys().end(), [&](const HarmlessKeys& keys) {
    return std::find(keys.names.begin(), keys.names.end(), name) != keys.names.end();
  });
}

}  // namespace

void refuse_unknown_keys(const ConfigReader& reader) {
  for (const std::string& key : reader.unread()) {
    const json& value = reader.object().at(key);
    if (is_harmless(key) || value.is_null()) continue;
    reader.fail(key.c_str(),
                "a key that plumb knows, as this one may change the model; delete it from the file if it does not");
  }
}

}  // namespace plumb
