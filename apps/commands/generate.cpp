// plumb generate: text from a model, for one prompt, streamed, or for every row of some files.
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>

#include <chrono>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "apps/commands/commands.hpp"
#include "apps/commands/single_rank.hpp"
#include "apps/models/model_setup.hpp"
#include "apps/models/model_text.hpp"
#include "apps/models/threads.hpp"
#include "apps/options/options.hpp"
#include "apps/preference/prompts.hpp"
#include "io/huggingface/hf_model.hpp"
#include "io/huggingface/tokenizer_files.hpp"
#include "io/records/data_files.hpp"
#include "lib/base/check.hpp"
#include "lib/base/log.hpp"
#include "lib/nn/decode.hpp"
#include "lib/tokenizer/text_stream.hpp"

namespace plumb {

namespace {

constexpr size_t kRowsAtOnce = 64;  // until their texts are printed

struct GenerateCommand {
  ModelOptions model;
  std::string adapter;
  std::string prompt;
  std::vector<std::string> data;
  std::string system;
  PromptOptions rendering;
  TokenizerBehavior tokenizer_behavior = TokenizerBehavior::kTransformers5;
  std::string eos_token;
  int64_t max_new_tokens = 256;
  SamplingOptions sampling;
  int64_t seed = 42;
};

std::vector<BoundOption> bind_options(GenerateCommand& o) {
  std::vector<BoundOption> options = plumb::bind_options(o.model);
  constexpr OptionGroup kData = OptionGroup::kData, kSampling = OptionGroup::kSampling;
  append(
      options,
      {merged_adapter_option(o.adapter),
       declare("prompt", kData, o.prompt, "the prompt: a user's message if there is a chat template"),
       declare("data", kData, o.data, "files of rows, rendered as plumb sft does; prints a JSON line for each",
               {.value_name = "FILE"}),
       declare("columns", kData, o.rendering.columns, "role=name,...: which column has which role"),
       chat_template_option(o.rendering.chat_template, "chat template to use instead of the model's own"),
       chat_template_kwargs_option(o.rendering.chat_template_kwargs), eos_token_option(o.eos_token),
       tokenizer_behavior_option(o.tokenizer_behavior),
       declare("system", kData, o.system, "system message before the prompt"),
       declare("parse_special_tokens", kData, o.rendering.parses_special_tokens,
               "control tokens spelled out in the prompt become control tokens"),
       declare("max_new_tokens", kSampling, o.max_new_tokens, "largest number of new tokens", {.range = at_least(1)}),
       declare("temperature", kSampling, o.sampling.temperature, "0: always the likeliest token",
               {.range = at_least(0)}),
       declare("top_p", kSampling, o.sampling.top_p,
               "sample from the likeliest tokens whose probabilities add up to this", {.range = above(0, 1)}),
       declare("top_k", kSampling, o.sampling.top_k, "sample from the k likeliest tokens; 0: from all",
               {.range = at_least(0)}),
       declare("min_p", kSampling, o.sampling.min_p,
               "sample from tokens at least this likely, relative to the likeliest", {.range = between(0, 1)}),
       declare("repetition_penalty", kSampling, o.sampling.repetition_penalty,
               "divide the logits of tokens that prompt and text have already by this; 1: leave them",
               {.range = above(0)}),
       declare("seed", kSampling, o.seed, "seed of sampling", {.range = at_least(0)})});
  return options;
}

void validate(const GenerateCommand& o) {
  if (o.prompt.empty() == o.data.empty()) throw UsageError("expected either --prompt or --data");
  if (!o.system.empty() && !o.data.empty())
    throw UsageError("--system: expected with --prompt only; rows of --data have a column for it");
}

Decoder load_decoder(const HfModel& model, at::ScalarType dtype) {
  std::vector<at::Tensor> units;
  for (const UnitLayout& unit : model.units()) {
    const at::Tensor flat = at::empty({unit.num_elements}, at::TensorOptions().dtype(at::kFloat));
    model.read_unit_range(unit, 0, unit.num_elements, {flat.data_ptr<float>(), static_cast<size_t>(unit.num_elements)});
    units.push_back(flat.to(dtype));
  }
  return Decoder(model.config(), units);
}

void print(const std::string& text) {
  if (std::fwrite(text.data(), 1, text.size(), stdout) != text.size() || std::fflush(stdout) != 0)
    throw InputOutputError("standard output: cannot write");
}

/// Both return the number of new tokens.
size_t answer_prompt(Decoder& decoder, const Tokenizer& tokenizer, const Prompt& prompt,
                     const GenerateOptions& options) {
  TextStream stream(tokenizer, prompt.token_ids);
  const std::vector<std::vector<int32_t>> prompts = {prompt.token_ids};
  const auto texts = generate(decoder, prompts, options, 0, [&](size_t, int32_t token) { print(stream.push(token)); });
  print(stream.pending() + "\n");
  return texts[0].size();
}

size_t answer_rows(Decoder& decoder, const Tokenizer& tokenizer, const std::vector<Prompt>& rows,
                   const GenerateOptions& options, uint64_t first_row) {
  std::vector<std::vector<int32_t>> prompts;
  for (const Prompt& row : rows) prompts.push_back(row.token_ids);
  const auto texts = generate(decoder, prompts, options, first_row);
  size_t num_tokens = 0;
  for (size_t i = 0; i < rows.size(); ++i) {
    TextStream stream(tokenizer, prompts[i]);
    std::string completion;
    for (const int32_t token : texts[i]) completion += stream.push(token);
    completion += stream.pending();
    print(nlohmann::ordered_json{{"prompt", rows[i].text}, {"completion", completion}}.dump() + "\n");
    num_tokens += texts[i].size();
  }
  return num_tokens;
}

int run_generate(const GenerateCommand& o) {
  validate(o);
  require_single_rank("generate");
  use_threads(choose_threads(o.model.threads));

  const HfModel model(o.model.model, HfModelOptions{.adapter = o.adapter});
  const TokenizerSource source = {o.model.model, o.adapter, o.eos_token, o.tokenizer_behavior};
  log_adapter_tokenizer(source);
  const Tokenizer tokenizer = load_tokenizer(source);
  const GenerateOptions options{o.max_new_tokens, end_ids(source, model.config(), tokenizer, o.rendering.chat_template),
                                o.sampling, static_cast<uint64_t>(o.seed), tokenizer.vocab_size()};
  const std::vector<std::string> files = find_data_files(o.data).paths;
  std::optional<Prompt> prompt;  // before the weights are read, as it may be refused
  if (o.data.empty()) prompt = make_prompt(o.prompt, o.system, o.rendering, tokenizer, model.config());
  Decoder decoder = load_decoder(model, scalar_type(o.model.dtype));

  const auto begin = std::chrono::steady_clock::now();
  size_t num_tokens = 0;
  if (prompt) num_tokens = answer_prompt(decoder, tokenizer, *prompt, options);
  uint64_t first_row = 0;
  for (const std::string& path : files) {
    PromptReader reader(path, o.rendering, tokenizer, model.config());
    for (bool is_done = false; !is_done;) {
      std::vector<Prompt> rows;
      while (rows.size() < kRowsAtOnce && !is_done) {
        std::optional<Prompt> row = reader.next();
        is_done = !row;
        if (row) rows.push_back(std::move(*row));
      }
      num_tokens += answer_rows(decoder, tokenizer, rows, options, first_row);
      first_row += rows.size();
    }
  }
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  log_info("{} tokens in {:.1f} s, {:.0f} tokens/s", num_tokens, seconds, static_cast<double>(num_tokens) / seconds);
  return kExitDone;
}

}  // namespace

Command generate_command() {
  return make_command<GenerateCommand>(
      {.name = "generate",
       .summary = "text from a model",
       .usage = "--model DIR (--prompt TEXT | --data FILE...) [--option value ...]",
       .example = "plumb generate --model run/model --prompt 'Why is the sky blue?' --max_new_tokens 64",
       .required = {"model"}},
      bind_options, run_generate);
}

}  // namespace plumb
