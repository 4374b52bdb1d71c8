// plumb inspect: rows as the model will see them, decoded, with what is trained marked; and what became of all rows. Or
// the rows of one step of a run.
#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <string_view>

#include "apps/commands/commands.hpp"
#include "apps/commands/inspect_step.hpp"
#include "apps/commands/print_rows.hpp"
#include "apps/commands/scratch_directory.hpp"
#include "apps/options/prepare_options.hpp"
#include "apps/run/data_files.hpp"
#include "apps/run/run_on_ranks.hpp"
#include "io/dataset/dataset.hpp"
#include "io/dataset/prepare.hpp"
#include "io/huggingface/tokenizer_files.hpp"
#include "lib/base/check.hpp"
#include "lib/text/show_tokens.hpp"

namespace plumb {

namespace {

struct InspectOptions {
  DataOptions data;
  std::string model;
  int64_t first_row = 0;
  int64_t num_rows = 3;
  bool prints_ids = false;
  std::string run;
  int64_t step = 0;
};

/// A line for each row that the tally names.
void print_rows_of(const RowTally& tally, std::string_view what) {
  for (const std::string& place : tally.first_places) fmt::print("{}: {}\n", place, what);
  const int64_t num_unnamed = tally.num_rows - std::ssize(tally.first_places);
  if (num_unnamed > 0) fmt::print("and {} more rows: {}\n", num_unnamed, what);
}

void print_statistics(const PrepareStatistics& s) {
  for (const RowReason& reason : drop_reasons())
    print_rows_of(s.*reason.tally, fmt::format("dropped, a row {}", reason.text));
  for (const RowReason& remark : row_remarks())
    print_rows_of(s.*remark.tally, fmt::format("kept, a row {}", remark.text));
  fmt::print("rows: {} read, {} kept, {} truncated; {} tokens, {} trained, longest row {}\n", s.num_rows_read,
             s.num_rows_kept, s.num_rows_truncated, s.num_tokens, s.num_trained_tokens, s.max_row_tokens);
  fmt::print("rows that end in a trained EOS: {:.1f} %\n", 100 * s.share_ending_in_trained_eos());
  fmt::print("lengths:\n");
  const int64_t most = *std::max_element(s.length_histogram.begin(), s.length_histogram.end());
  for (size_t bin = 0; bin < s.length_histogram.size(); ++bin) {
    const int64_t count = s.length_histogram[bin];
    if (count > 0)
      fmt::print("  {:>8}-{:<8} {:>8} {}\n", int64_t{1} << bin, (int64_t{2} << bin) - 1, count,
                 std::string(1 + 40 * count / most, '#'));
  }
}

int inspect(const Communicator& comm, const InspectOptions& o) {
  if (comm.size() > 1) throw_error<UsageError>("plumb inspect runs on one rank, started on {}", comm.size());
  if (!o.run.empty()) {
    inspect_step(comm, o.run, o.step, o.model);
    return kExitDone;
  }
  const ScratchDirectory scratch(comm);
  std::string directory = o.data.data.front();
  if (!std::filesystem::is_directory(directory)) {
    const DatasetIndex index = prepare_data(
        comm, prepare_options(with_files(comm, o.data), RowUse::kAny, /*needs_whole_texts=*/false, {o.model}),
        scratch.path());
    directory = dataset_directory(scratch.path(), index);
  }
  const Tokenizer tokenizer = load_tokenizer({o.model, "", o.data.eos_token});
  const Dataset rows(directory);
  const int64_t num_after = rows.num_rows() - std::min(o.first_row, rows.num_rows());
  const int64_t end = o.first_row + (o.num_rows == 0 ? num_after : std::min(o.num_rows, num_after));
  if (o.prints_ids) {
    for (int64_t i = o.first_row; i < end; ++i) fmt::print("{}\n", row_as_ids(rows.row(i)));
    return kExitDone;
  }
  if (o.first_row < end) fmt::print("{}\n", kTokenMarks);
  for (int64_t i = o.first_row; i < end; ++i)
    print_row(tokenizer, rows.row(i), fmt::format("row {} (source row {})", i, rows.row(i).row_ids.front()));
  print_statistics(rows.index().statistics);
  return kExitDone;
}

std::vector<BoundOption> bind_options(InspectOptions& o) {
  std::vector<BoundOption> options = plumb::bind_options(o.data);
  append(options,
         {declare("model", OptionGroup::kModel, o.model, "directory with the tokenizer", {.value_name = "DIR"}),
          declare("first_row", OptionGroup::kOutput, o.first_row, "the first row shown"),
          declare("num_rows", OptionGroup::kOutput, o.num_rows, "how many rows are shown; 0: all"),
          declare("ids", OptionGroup::kOutput, o.prints_ids,
                  "print the rows as lines of JSON, in the form of TRL's tokenized rows: input_ids and labels, or "
                  "prompt_ids, chosen_ids and rejected_ids of pairs"),
          declare("run", OptionGroup::kOutput, o.run,
                  "output_dir of a training run: show the rows of its --step, each with its loss under the run's "
                  "checkpoint before that step, or under --model",
                  {.value_name = "DIR"}),
          declare("step", OptionGroup::kOutput, o.step, "step of --run")});
  return options;
}

int run_inspect(const InspectOptions& o) {
  if (o.prints_ids && !o.run.empty())
    throw UsageError("plumb inspect: --ids: expected with --data, got --run, whose rows are printed as text");
  if (o.run.empty() && (o.model.empty() || o.data.data.empty()))
    throw UsageError("plumb inspect: expected --model and --data, or --run and --step");
  return run_on_ranks([&](const Communicator& comm) { return inspect(comm, o); });
}

}  // namespace

Command inspect_command() {
  return make_command<InspectOptions>({.name = "inspect",
                                       .summary = "show rows decoded, with the trained text marked",
                                       .usage = "--model DIR --data FILE...|PREPARED_DIR, or --run DIR --step N",
                                       .example = "plumb inspect --model MODEL_DIR --data rows.jsonl --num_rows 5"},
                                      bind_options, run_inspect);
}

}  // namespace plumb
