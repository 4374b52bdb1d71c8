#include "apps/options/options.hpp"

#include <iterator>

#include "lib/text/chat_template.hpp"

namespace plumb {

BoundOption threads_option(int& threads) {
  return declare("threads", OptionGroup::kMemory, threads,
                 "threads per rank; 0: OMP_NUM_THREADS, else as many as a rank may use CPUs",
                 {.range = between(0, 1024), .on_resume = OnResume::kMayChange});
}

BoundOption chat_template_option(std::string& chat_template, std::string_view help) {
  const std::span<const std::string> names = template_names();
  return declare("chat_template", OptionGroup::kData, chat_template, help,
                 {.value_name = "NAME", .choices = {names.begin(), names.end()}});
}

BoundOption chat_template_kwargs_option(std::string& variables) {
  return declare("chat_template_kwargs", OptionGroup::kData, variables,
                 "JSON object of options of the chat template, for rows without the same ones of their own",
                 {.value_name = "JSON"});
}

BoundOption tokenizer_behavior_option(TokenizerBehavior& behavior) {
  // not compared: another input of a run names whose ids it has
  return declare("tokenizer_behavior", OptionGroup::kData, behavior,
                 "the version of transformers that ids are equal to where it matters",
                 {.on_resume = OnResume::kNotCompared});
}

BoundOption eos_token_option(std::string& eos_token) {
  return declare(
      "eos_token", OptionGroup::kData, eos_token,
      "token that ends a text, instead of the tokenizer's own; generation ends at it, and the export names it",
      {.value_name = "TOKEN"});
}

BoundOption overwrite_option(bool& overwrite, std::string_view help) {
  return declare("overwrite_output_dir", OptionGroup::kOutput, overwrite, help, {.on_resume = OnResume::kNotCompared});
}

BoundOption eval_batch_size_option(int64_t& batch_size) {
  return declare("per_device_eval_batch_size", OptionGroup::kEvaluation, batch_size,
                 "rows per micro-batch and rank in evaluation",
                 {.range = between(1, 1e6), .on_resume = OnResume::kMayChange});
}

BoundOption merged_adapter_option(std::string& adapter) {
  return declare("adapter", OptionGroup::kModel, adapter, "PEFT adapter directory, merged into the weights",
                 {.value_name = "DIR"});
}

std::vector<BoundOption> bind_options(ModelOptions& o) {
  return {declare("model", OptionGroup::kModel, o.model, "Hugging Face model directory",
                  {.on_resume = OnResume::kNotCompared, .value_name = "DIR"}),
          declare("dtype", OptionGroup::kModel, o.dtype, "number format of activations, gathered weights and messages"),
          threads_option(o.threads)};
}

std::vector<BoundOption> bind_options(DataOptions& o) {
  constexpr StageSet kSftOnly = {.sft = true};
  return {
      declare("data", OptionGroup::kData, o.data,
              "files of rows (.csv .tsv .jsonl .json, also .gz or .zst; .parquet), or patterns such as 'rows/*.jsonl'",
              {.on_resume = OnResume::kNotCompared, .value_name = "FILE"}),
      declare("columns", OptionGroup::kData, o.columns, "role=name,...: which column has which role"),
      chat_template_option(o.chat_template, "chat template to use instead of the model's own"),
      chat_template_kwargs_option(o.chat_template_kwargs),
      tokenizer_behavior_option(o.tokenizer_behavior),
      eos_token_option(o.eos_token),
      declare("max_length", OptionGroup::kData, o.max_length, "tokens per text; the rest is truncated; 0: no limit",
              {.range = between(0, 1e9)}),
      declare("parse_special_tokens", OptionGroup::kData, o.parse_special_tokens,
              "control tokens spelled out in the data become control tokens, as in TRL"),
      declare("completion_only_loss", OptionGroup::kData, o.completion_only_loss,
              "train only the completion; by default where rows have a prompt", {.stages = kSftOnly}),
      declare("assistant_only_loss", OptionGroup::kData, o.assistant_only_loss, "train only the assistant's turns",
              {.stages = kSftOnly}),
  };
}

void append(std::vector<BoundOption>& options, std::vector<BoundOption> more) {
  options.insert(options.end(), std::make_move_iterator(more.begin()), std::make_move_iterator(more.end()));
}

SftOptions sft_options(const DataOptions& o) {
  return {o.max_length, o.completion_only_loss, o.assistant_only_loss, o.parse_special_tokens};
}

PairOptions pair_options(const DataOptions& o, bool drops_long_pairs) {
  return {.max_length = o.max_length,
          .drops_long_pairs = drops_long_pairs,
          .parses_special_tokens = o.parse_special_tokens};
}

}  // namespace plumb
