// plumb resize: a model with more tokens, for a base that lacks those of a chat template. The new rows of embedding and
// head are the mean of the others, so that a new token is at first as likely as the average.
// Source: resize_token_embeddings of transformers, which adds noise of variance 1e-9 to that mean; Hewitt,
// "Initializing New Word Embeddings for Pretrained Language Models", 2021.
#include <algorithm>
#include <filesystem>

#include "apps/commands/commands.hpp"
#include "apps/commands/scratch_directory.hpp"
#include "apps/commands/single_rank.hpp"
#include "apps/models/model_setup.hpp"
#include "apps/models/model_text.hpp"
#include "apps/run/run_on_ranks.hpp"
#include "io/file/file.hpp"
#include "io/huggingface/hf_export.hpp"
#include "io/huggingface/new_tokens.hpp"
#include "lib/base/check.hpp"
#include "lib/base/log.hpp"

namespace plumb {

namespace {

constexpr int64_t kPieceElements = int64_t{1} << 20;

struct ResizeCommand {
  std::string model, output_dir;
  std::vector<std::string> add_tokens;
  int64_t resize_embeddings = 0;
  std::string chat_template, eos_token;
  bool overwrite_output_dir = false;
};

bool has_row_per_token(const Parameter& p) {
  return p.kind == ParameterKind::kEmbedding || p.kind == ParameterKind::kHead;
}

/// Copies a parameter piece by piece; returns the sums of its columns if it has a row for each token.
std::vector<double> copy_parameter(const HfModel& model, const ExportPlan& plan, const std::string& temporary,
                                   size_t unit, const Parameter& before, const Parameter& after) {
  const int64_t columns = before.shape.size() == 2 ? before.shape[1] : 1;
  std::vector<double> sums(has_row_per_token(before) ? columns : 0);
  std::vector<float> values;
  const int64_t piece = std::max(columns, kPieceElements / columns * columns);
  for (int64_t begin = 0; begin < before.num_elements(); begin += piece) {
    const int64_t end = std::min(begin + piece, before.num_elements());
    values.resize(end - begin);
    model.read_unit_range(model.units()[unit], before.offset + begin, before.offset + end, values);
    write_unit_range(plan, temporary, unit, after.offset + begin, after.offset + end, values);
    if (!sums.empty())
      for (int64_t i = 0; i < end - begin; ++i) sums[i % columns] += values[i];
  }
  return sums;
}

void write_weights(const HfModel& model, const std::vector<UnitLayout>& units, const ExportPlan& plan,
                   const std::string& temporary) {
  for (size_t unit = 0; unit < units.size(); ++unit)
    for (size_t i = 0; i < units[unit].parameters.size(); ++i) {
      const Parameter &before = model.units()[unit].parameters[i], &after = units[unit].parameters[i];
      check(before.kind == after.kind && before.layer == after.layer, "a resize keeps the parameters");
      const std::vector<double> sums = copy_parameter(model, plan, temporary, unit, before, after);
      std::vector<float> mean;
      for (const double sum : sums) mean.push_back(static_cast<float>(sum / static_cast<double>(before.shape[0])));
      for (int64_t at = before.num_elements(); !mean.empty() && at < after.num_elements(); at += std::ssize(mean))
        write_unit_range(plan, temporary, unit, after.offset + at, after.offset + at + std::ssize(mean), mean);
    }
}

/// The files of the text in a directory of their own, with the new tokens.
void copy_text_files(const std::string& model, const std::string& directory) {
  std::vector<std::string> paths = tokenizer_files(model);
  for (const char* name : {"config.json", "generation_config.json"})
    if (const std::string path = join_path(model, name); is_regular_file(path)) paths.push_back(path);
  for (const std::string& path : paths)
    std::filesystem::copy_file(path, join_path(directory, std::filesystem::path(path).filename().string()));
}

void log_tokens(const std::vector<NewToken>& tokens, int64_t num_rows_before) {
  for (const NewToken& token : tokens) {
    const char* row = token.was_there               ? "there already"
                      : token.id >= num_rows_before ? "a new row, the mean of the others"
                                                    : "a row that padded the embedding";
    log_info("token {}: id {}, {}", token.text, token.id, row);
  }
}

int64_t choose_rows(const ResizeCommand& o, int64_t num_rows, int64_t num_tokens) {
  const int64_t least = std::max(num_rows, num_tokens);
  if (o.resize_embeddings == 0) return least;
  if (o.resize_embeddings < least)
    throw_error<UsageError>(
        "--resize_embeddings: expected at least {}, for the {} tokens of the tokenizer and the {} rows of the model, "
        "got {}; rows are never dropped",
        least, num_tokens, num_rows, o.resize_embeddings);
  return o.resize_embeddings;
}

void resize(const ResizeCommand& o, const std::string& scratch) {
  AtomicDirectory resized(o.output_dir,
                          o.overwrite_output_dir ? ExistingDirectory::kReplace : ExistingDirectory::kRefuse);
  const HfModel model(o.model);
  if (model.is_quantized())
    throw_error<UsageError>("{}: expected a model that is not quantized; resize its base, then plumb quantize",
                            o.model);
  copy_text_files(o.model, scratch);
  const std::vector<NewToken> tokens =
      o.add_tokens.empty() ? std::vector<NewToken>() : add_tokens(scratch, o.add_tokens);
  const TokenizerSource source = {.model = scratch, .eos_token = o.eos_token};
  const Tokenizer tokenizer = load_tokenizer(source);
  ModelConfig config = model.config();
  const int64_t num_rows = config.vocab_size;
  config.vocab_size = choose_rows(o, num_rows, tokenizer.vocab_size());
  log_tokens(tokens, num_rows);

  const std::vector<UnitLayout> units = unit_layouts(config);
  const Dtype stored = model.stored_tensor(model.units().front().parameters.front()).entry->dtype;
  const ExportPlan plan = plan_export(units, stored == Dtype::kBf16 ? Dtype::kBf16 : Dtype::kF32);
  const std::string& temporary = resized.temporary_path();
  create_export_files(plan, temporary);
  write_weights(model, units, plan, temporary);
  finish_export(
      plan, temporary, config,
      exported_text(source, tokenizer, o.chat_template.empty() ? std::nullopt : std::optional(o.chat_template)));
  resized.publish();
  log_info("{}: {} tokens, {} rows of the embedding, {} of them new", o.output_dir, tokenizer.vocab_size(),
           config.vocab_size, config.vocab_size - num_rows);
}

std::vector<BoundOption> bind_options(ResizeCommand& o) {
  return {
      declare("model", OptionGroup::kModel, o.model, "directory of the base model", {.value_name = "DIR"}),
      declare("output_dir", OptionGroup::kOutput, o.output_dir, "directory of the new model", {.value_name = "DIR"}),
      declare("add_tokens", OptionGroup::kModel, o.add_tokens, "texts that become control tokens",
              {.value_name = "TEXT"}),
      declare("resize_embeddings", OptionGroup::kModel, o.resize_embeddings,
              "rows of embedding and head; 0: as many as the tokenizer has tokens, at least those there are",
              {.range = at_least(0)}),
      chat_template_option(o.chat_template, "becomes the model's own chat template"),
      eos_token_option(o.eos_token),
      overwrite_option(o.overwrite_output_dir, "replace a model that is already there"),
  };
}

int run_resize(const ResizeCommand& o) {
  if (o.add_tokens.empty() && o.resize_embeddings == 0 && o.chat_template.empty() && o.eos_token.empty())
    throw UsageError("expected at least one of --add_tokens, --resize_embeddings, --chat_template and --eos_token");
  require_single_rank("resize");
  return run_on_ranks([&](const Communicator& comm) {
    const ScratchDirectory scratch(comm);
    comm.run_agreed([&] { resize(o, scratch.path()); });
    return kExitDone;
  });
}

}  // namespace

Command resize_command() {
  return make_command<ResizeCommand>(
      {.name = "resize",
       .summary = "a model with more tokens",
       .usage = "--model DIR --output_dir DIR [--add_tokens TEXT...] [--option value ...]",
       .example = "plumb resize --model BASE_DIR --output_dir base-chat --add_tokens '<|im_start|>' '<|im_end|>' "
                  "--chat_template chatml --eos_token '<|im_end|>'",
       .required = {"model", "output_dir"}},
      bind_options, run_resize);
}

}  // namespace plumb
