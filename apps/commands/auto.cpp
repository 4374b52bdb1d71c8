// plumb auto: only a model and data are given. The shapes of the rows decide which stages run: instructions and texts
// make an [sft], preference pairs a [reward] and a [dpo]; with reward functions a [grpo] completes the prompts of the
// rows instead. Prints that pipeline file, then runs it.
#include <fmt/format.h>

#include <algorithm>
#include <map>

#include "apps/commands/commands.hpp"
#include "apps/pipeline/pipeline.hpp"
#include "apps/run/run_on_ranks.hpp"
#include "io/records/data_files.hpp"
#include "io/records/record_file.hpp"
#include "lib/base/check.hpp"
#include "lib/text/row_format.hpp"

namespace plumb {

namespace {

/// Files are sorted by the shape of their rows; the other settings are for all stages that have the option.
struct AutoSettings {
  Settings data;
  Settings eval_data;
  Settings common;
};

AutoSettings sort_settings(const Settings& settings) {
  AutoSettings sorted;
  for (const Setting& setting : settings)
    (setting.name == "data"        ? sorted.data
     : setting.name == "eval_data" ? sorted.eval_data
                                   : sorted.common)
        .push_back(setting);
  return sorted;
}

/// Throws UsageError for a value that no stage takes.
void check_value(const Setting& setting) {
  std::string problem;
  for (const Stage stage : kStages) {
    if (!find_option(training_options(stage), setting.name)) continue;
    try {
      parse_train_options(stage, {setting});
      return;
    } catch (const UsageError& error) {
      problem = error.what();
    }
  }
  throw UsageError(problem);
}

bool holds_pairs(const std::string& item, const std::map<std::string, std::string>& columns) {
  const std::string path = find_data_files(item).front();
  RecordReader reader(path, index_records(path));
  const auto first = reader.next();
  if (!first) throw_error<DataError>("{}: expected rows, got none", path);
  return find_row_format(first->object, columns, reader.where(*first)).shape == RowShape::kPreference;
}

/// Files of rows for SFT, and files of pairs.
struct FilesByShape {
  Settings sft, pairs;
};

/// Collective: rank 0 looks at the first row of each file; of a pattern, at that of the first that matches.
FilesByShape sort_by_shape(const Communicator& comm, const AutoSettings& options) {
  const auto columns = parse_columns_option(find_setting(options.common, "columns"));
  const std::vector<char> are_pairs = comm.from_rank0([&] {
    std::vector<char> answers;
    for (const Settings* files : {&options.data, &options.eval_data})
      for (const Setting& file : *files) answers.push_back(holds_pairs(file.value, columns) ? 1 : 0);
    return answers;
  });
  FilesByShape sorted;
  size_t next = 0;
  for (const Settings* files : {&options.data, &options.eval_data})
    for (const Setting& file : *files) (are_pairs[next++] ? sorted.pairs : sorted.sft).push_back(file);
  return sorted;
}

/// Throws UsageError where files to evaluate on are of no stage.
PipelineFile plan_by_rows(const AutoSettings& options, const FilesByShape& files) {
  PipelineFile file;
  file.common = options.common;
  const auto add = [&](const Settings& settings, const std::vector<Stage>& stages, const char* what) {
    if (settings.empty()) return;
    if (find_setting(settings, "data").empty())
      throw_error<UsageError>("--eval_data {}: holds {}, but no file of --data does, so no stage evaluates on it",
                              settings[0].value, what);
    for (const Stage stage : stages) file.sections.push_back({stage, settings});
  };
  add(files.sft, {Stage::kSft}, "rows for SFT");
  if (!has_setting(options.common, "reward_funcs")) {
    add(files.pairs, {Stage::kReward, Stage::kDpo}, "preference pairs");
    return file;
  }
  add(files.pairs, {Stage::kReward}, "preference pairs");
  add(files.sft.empty() ? files.pairs : files.sft, {Stage::kGrpo}, "prompts");
  return file;
}

int run_auto(const Settings& settings) {
  for (const Setting& setting : settings) check_value(setting);
  AutoSettings sorted = sort_settings(settings);
  if (!has_setting(sorted.common, "output_dir")) sorted.common.push_back({"output_dir", "plumb-auto"});
  return run_on_ranks([&](const Communicator& comm) {
    PipelineFile file;
    const FilesByShape files = sort_by_shape(comm, sorted);
    comm.run_agreed([&] {
      file = plan_by_rows(sorted, files);
      plan_pipeline(file);
    });
    if (comm.rank() == 0) {
      fmt::print("{}\n", render_pipeline_file(file));
      std::fflush(stdout);
    }
    run_stages(comm, file);
    return static_cast<int>(kExitDone);
  });
}

constexpr const char* kNotes =
    "Rows of instructions, messages or text make a stage sft, preference pairs the stages reward and\n"
    "dpo. With --reward_funcs a stage grpo takes the place of dpo: it completes the prompts of the rows,\n"
    "or of the pairs without rows. The other options go to all stages that have them. The pipeline file that results is printed,\n"
    "kept as output_dir/pipeline.ini (plumb-auto without --output_dir), and run.";

}  // namespace

Command auto_command() {
  return {{.name = "auto",
           .summary = "only a model and data: the rows decide which stages run",
           .usage = "--model DIR --data FILE... [--output_dir DIR] [--option value ...]",
           .example = "mpirun -n 4 plumb auto --model MODEL_DIR --data rows.jsonl pairs.jsonl --output_dir run",
           .notes = kNotes,
           .required = {"model", "data"}},
          training_options(),
          run_auto};
}

}  // namespace plumb
