// plumb score: the rows of files with their rewards, as JSON Lines in the order of the rows, on any number of ranks.
#include <fmt/format.h>

#include <cstdio>
#include <nlohmann/json.hpp>

#include "apps/commands.hpp"
#include "apps/model_setup.hpp"
#include "apps/options.hpp"
#include "apps/scoring.hpp"
#include "io/file.hpp"
#include "io/prepare.hpp"
#include "io/record_file.hpp"
#include "io/scratch_directory.hpp"
#include "lib/base/check.hpp"
#include "lib/base/log.hpp"

namespace plumb {

namespace {

using nlohmann::ordered_json;

struct ScoreOptions {
  ModelOptions model;
  DataOptions data;
  std::string output;
  int64_t batch_size = 8;
};

/// Rank 0 only: every row with its reward, null where the row had no text.
void write_rows(const ScoreOptions& o, const Dataset& dataset, const std::vector<double>& rewards) {
  const std::string temporary = o.output + ".tmp";
  std::FILE* out = o.output.empty() ? stdout : std::fopen(temporary.c_str(), "we");
  if (!out) throw_errno(temporary, "open");
  const bool has_pairs = dataset.index().kind == kPairsKind;
  int64_t source_row = 0, example = 0;
  const auto next_scored = [&] {
    return example < dataset.num_examples() ? dataset.examples(example, example + 1).row_ids.front() : int64_t{-1};
  };
  int64_t scored_row = next_scored();
  for (const std::string& path : o.data.data) {
    RecordReader reader(path, index_records(path));
    for (auto record = reader.next(); record; record = reader.next(), ++source_row) {
      ordered_json row(record->object);
      const bool is_scored = source_row == scored_row;
      const auto reward = [&](int64_t document) {
        const auto index = static_cast<size_t>(has_pairs ? 2 * example + document : example);
        return is_scored ? ordered_json(rewards[index]) : ordered_json();
      };
      if (has_pairs) {
        row["chosen_reward"] = reward(0);
        row["rejected_reward"] = reward(1);
      } else {
        row["reward"] = reward(0);
      }
      const std::string line = row.dump(-1, ' ', false, ordered_json::error_handler_t::replace) + "\n";
      if (std::fwrite(line.data(), 1, line.size(), out) != line.size()) throw_errno(o.output, "write");
      if (!is_scored) continue;
      ++example;
      scored_row = next_scored();
    }
  }
  if (std::fflush(out) != 0) throw_errno(o.output, "write");
  if (o.output.empty()) return;
  std::fclose(out);
  rename_path(temporary, o.output);
}

int score(const Communicator& comm, const ScoreOptions& o) {
  set_up_process(comm, o.model.threads);
  RewardModel model(comm, o.model.model, parse_dtype(o.model.dtype));
  const ScratchDirectory scratch(comm);
  SftOptions sft = sft_options(o.data);
  sft.completion_only_loss = false;  // every token counts, so only rows without text are left out
  const DatasetIndex index = prepare_data(comm,
                                          {.files = o.data.data,
                                           .columns = parse_columns_option(o.data.columns),
                                           .template_name = o.data.chat_template,
                                           .use = RowUse::kAny,
                                           .sft = sft,
                                           .pair = pair_options(o.data, /*drops_long_pairs=*/false),
                                           .model_directory = o.model.model,
                                           .vocab_size = model.config().vocab_size},
                                          scratch.path());
  std::optional<Dataset> dataset;
  comm.run_agreed([&] { dataset.emplace(dataset_directory(scratch.path(), index), model.config().vocab_size); });
  const std::vector<double> rewards = model.score(*dataset, o.batch_size);
  comm.run_on_rank0([&] { write_rows(o, *dataset, rewards); });
  if (comm.rank() == 0) log_info("score: {} rewards", rewards.size());
  return kExitDone;
}

}  // namespace

int run_score(const std::vector<std::string>& arguments) {
  ScoreOptions options;
  OptionsDescription description("options of plumb score");
  declare(description, options.model);
  declare(description, options.data, /*has_sft_options=*/false);
  auto add = description.add_options();
  add("output", with_default(options.output), "the file to write; none: standard output");
  add("per_device_eval_batch_size", with_default(options.batch_size), "rows of a micro-batch");
  if (!parse_options("plumb score --model DIR --data FILE... [--output FILE]", description, {"model", "data"}, arguments))
    return kExitDone;
  check_range(options.batch_size >= 1, "per_device_eval_batch_size", "at least 1",
              static_cast<double>(options.batch_size));
  return run_on_ranks([&](const Communicator& comm) { return score(comm, options); });
}

}  // namespace plumb
