// plumb generate: text from a model, for one prompt as it comes or for every row of some files.
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
#include "apps/options/options.hpp"
#include "apps/preference/prompts.hpp"
#include "io/huggingface/hf_model.hpp"
#include "io/huggingface/tokenizer_files.hpp"
#include "lib/base/check.hpp"
#include "lib/base/log.hpp"
#include "lib/nn/decode.hpp"
#include "lib/tokenizer/text_stream.hpp"

namespace plumb {

namespace po = boost::program_options;

namespace {

constexpr size_t kRowsAtOnce = 8;

struct GenerateCommand {
  ModelOptions model;
  std::string adapter;
  std::string prompt;
  std::vector<std::string> data;
  std::string system;
  PromptOptions rendering;
  int64_t max_new_tokens = 256;
  SamplingOptions sampling;
  int64_t seed = 42;
};

void declare(OptionsDescription& description, GenerateCommand& o) {
  declare(description, o.model);
  auto add = description.add_options();
  add("adapter", po::value(&o.adapter), "PEFT adapter directory, merged into the weights");
  add("prompt", po::value(&o.prompt), "what the model goes on from: a user's message if there is a chat template");
  add("data", po::value(&o.data)->multitoken(),
      "files of rows, rendered as plumb sft does: prints a JSON line for each");
  add("columns", po::value(&o.rendering.columns), "role=name,...: which column plays which role");
  add("chat_template", po::value(&o.rendering.chat_template),
      "chatml, llama2, llama3, mistral, zephyr, alpaca or instructgpt; none: the model's own");
  add("system", po::value(&o.system), "a system message before the prompt");
  add("parse_special_tokens",
      po::value(&o.rendering.parses_special_tokens)->default_value(o.rendering.parses_special_tokens),
      "control tokens spelled out in the prompt become control tokens");
  add("max_new_tokens", po::value(&o.max_new_tokens)->default_value(o.max_new_tokens), "tokens at most");
  add("temperature", po::value(&o.sampling.temperature)->default_value(0, "0"), "0: always the likeliest token");
  add("top_p", po::value(&o.sampling.top_p)->default_value(1, "1"),
      "only the likeliest tokens that together reach this probability");
  add("top_k", po::value(&o.sampling.top_k)->default_value(0), "only the k likeliest tokens; 0: all");
  add("seed", po::value(&o.seed)->default_value(o.seed), "of the sampling");
}

void validate(const GenerateCommand& o) {
  validate(o.sampling);
  if (o.prompt.empty() == o.data.empty()) throw UsageError("expected either --prompt or --data");
  if (!o.system.empty() && !o.data.empty())
    throw UsageError("--system: expected with --prompt only; rows of --data have a column for it");
  if (o.max_new_tokens < 1) throw_error<UsageError>("--max_new_tokens: expected at least 1, got {}", o.max_new_tokens);
  if (o.seed < 0) throw_error<UsageError>("--seed: expected at least 0, got {}", o.seed);
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

}  // namespace

int run_generate(const std::vector<std::string>& arguments) {
  GenerateCommand o;
  OptionsDescription description("Options");
  declare(description, o);
  if (!parse_options("plumb generate --model DIR (--prompt TEXT | --data FILE...) [--option value ...]", description,
                     {"model"}, arguments))
    return kExitDone;
  validate(o);
  require_single_rank("generate");
  use_threads(o.model.threads, /*ranks_of_node=*/1);

  const HfModel model(o.model.model, HfModelOptions{.adapter = o.adapter});
  const Tokenizer tokenizer = load_tokenizer(o.model.model);
  GenerateOptions options{o.max_new_tokens, model.config().eos_token_ids, o.sampling, static_cast<uint64_t>(o.seed),
                          tokenizer.vocab_size()};
  if (const auto eos = tokenizer.eos_id()) options.stop_ids.push_back(*eos);
  std::optional<Prompt> prompt;  // before the weights are read, as it may be refused
  if (o.data.empty()) prompt = make_prompt(o.prompt, o.system, o.rendering, tokenizer, model.config());
  Decoder decoder = load_decoder(model, scalar_type(o.model.dtype));

  const auto begin = std::chrono::steady_clock::now();
  size_t num_tokens = 0;
  if (prompt) num_tokens = answer_prompt(decoder, tokenizer, *prompt, options);
  uint64_t first_row = 0;
  for (const std::string& path : o.data) {
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

}  // namespace plumb
