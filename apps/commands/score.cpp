// plumb score: the rows of files with their rewards, as JSON Lines in the order of the rows, on any number of ranks.
#include <fmt/format.h>

#include <cstdio>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>
#include <utility>

#include "apps/commands/commands.hpp"
#include "apps/commands/scratch_directory.hpp"
#include "apps/models/model_setup.hpp"
#include "apps/models/model_text.hpp"
#include "apps/models/reward_model.hpp"
#include "apps/options/prepare_options.hpp"
#include "apps/run/data_files.hpp"
#include "apps/run/run_on_ranks.hpp"
#include "io/dataset/prepare.hpp"
#include "io/file/atomic_file.hpp"
#include "io/file/file.hpp"
#include "io/records/record_file.hpp"
#include "lib/base/check.hpp"
#include "lib/base/log.hpp"

namespace plumb {

namespace {

using nlohmann::ordered_json;

struct ScoreOptions {
  ModelOptions model;
  DataOptions data;
  std::string adapter;
  std::string output;
  int64_t batch_size = 8;
};

/// Rank 0 only: lines on standard output or, all or none of them, in a file.
class LineWriter {
 public:
  /// "": standard output. Throws InputOutputError.
  explicit LineWriter(const std::string& path) {
    if (path.empty()) return;
    if (std::filesystem::exists(path) && !is_regular_file(path))  // a rename would replace a device
      throw_error<InputOutputError>("{}: expected a file to write, got something else", path);
    name_.emplace(path);
    file_ = std::fopen(name_->temporary_path().c_str(), "we");
    if (!file_) throw_errno(path, "create");
  }
  ~LineWriter() {
    if (name_ && file_) std::fclose(file_);
  }
  LineWriter(const LineWriter&) = delete;
  LineWriter& operator=(const LineWriter&) = delete;

  void write(std::string_view line) {
    if (std::fwrite(line.data(), 1, line.size(), file_) != line.size()) throw_errno(path(), "write");
  }
  void publish() {
    if (std::fflush(file_) != 0) throw_errno(path(), "write");
    if (!name_) return;
    if (std::fclose(std::exchange(file_, nullptr)) != 0) throw_errno(path(), "write");
    name_->publish();
  }

 private:
  std::string path() const { return name_ ? name_->path() : "standard output"; }

  std::optional<AtomicFile> name_;
  std::FILE* file_ = stdout;
};

/// Rank 0 only: every row with its reward, null where the row had no text.
void write_rows(const ScoreOptions& o, const Dataset& dataset, const std::vector<double>& rewards, LineWriter& out) {
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
      out.write(row.dump(-1, ' ', false, ordered_json::error_handler_t::replace) + "\n");
      if (!is_scored) continue;
      ++example;
      scored_row = next_scored();
    }
  }
  out.publish();
}

int score(const Communicator& comm, ScoreOptions o) {
  o.data = with_files(comm, std::move(o.data));
  set_up_process(comm, o.model.threads);
  std::optional<LineWriter> out;  // opened first: nobody waits for rewards that cannot be written
  comm.run_on_rank0([&] { out.emplace(o.output); });
  RewardModel model(comm, o.model.model, scalar_type(o.model.dtype), o.adapter);
  const TokenizerSource tokenizer = {o.model.model, o.adapter};
  if (comm.rank() == 0) log_adapter_tokenizer(tokenizer);
  const ScratchDirectory scratch(comm);
  DataOptions data = o.data;
  data.completion_only_loss = false;  // every token counts, so only rows without text are left out
  const DatasetIndex index = prepare_data(
      comm, prepare_options(data, RowUse::kAny, /*needs_whole_texts=*/false, tokenizer, model.config().vocab_size),
      scratch.path());
  std::optional<Dataset> dataset;
  comm.run_agreed([&] { dataset.emplace(dataset_directory(scratch.path(), index), model.config().vocab_size); });
  const std::vector<double> rewards = model.score(*dataset, o.batch_size);
  comm.run_on_rank0([&] { write_rows(o, *dataset, rewards, *out); });
  if (comm.rank() == 0) log_info("score: {} rewards", rewards.size());
  return kExitDone;
}

std::vector<BoundOption> bind_options(ScoreOptions& o) {
  std::vector<BoundOption> options = plumb::bind_options(o.model);
  append(options, plumb::bind_options(o.data));
  std::erase_if(options, [](const BoundOption& bound) { return !bound.option.stages.has(Stage::kReward); });
  append(options, {merged_adapter_option(o.adapter),
                   declare("output", OptionGroup::kOutput, o.output, "file to write; by default standard output",
                           {.value_name = "FILE"}),
                   eval_batch_size_option(o.batch_size)});
  return options;
}

int run_score(const ScoreOptions& o) {
  return run_on_ranks([&](const Communicator& comm) { return score(comm, o); });
}

}  // namespace

Command score_command() {
  return make_command<ScoreOptions>({.name = "score",
                                     .summary = "rewards of rows",
                                     .usage = "--model DIR --data FILE... [--output FILE]",
                                     .example = "mpirun -n 4 plumb score --model run/model --data pairs.jsonl --output "
                                                "scored.jsonl",
                                     .required = {"model", "data"}},
                                    bind_options, run_score);
}

}  // namespace plumb
