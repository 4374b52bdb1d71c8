// plumb auto: only a model and data are given. The shapes of the rows decide which stages run: instructions and texts
// make an [sft], preference pairs a [reward] and a [dpo]. Prints the pipeline file that says so, then runs it.
#include <fmt/format.h>

#include <algorithm>
#include <map>

#include "apps/commands/commands.hpp"
#include "apps/pipeline/pipeline.hpp"
#include "apps/run/run_on_ranks.hpp"
#include "io/records/record_file.hpp"
#include "lib/base/check.hpp"
#include "lib/text/row_format.hpp"

namespace plumb {

namespace {

constexpr const char* kUsage = "plumb auto --model DIR --data FILE... [--output_dir DIR] [--option value ...]";

struct AutoOptions {
  std::vector<std::string> data;
  std::vector<std::string> eval_data;
  std::vector<Setting> common;  // of all stages
};

/// Options that are no lists of files become common settings: plan_pipeline() knows which exist.
AutoOptions parse_arguments(const std::vector<std::string>& arguments) {
  AutoOptions options;
  for (size_t i = 0; i < arguments.size();) {
    const std::string& argument = arguments[i++];
    if (!argument.starts_with("--") || argument.size() == 2)
      throw_error<UsageError>("{}: an argument without an option before it; usage: {}", argument, kUsage);
    const size_t equals = std::min(argument.find('='), argument.size());
    std::string name = argument.substr(2, equals - 2);
    std::replace(name.begin(), name.end(), '-', '_');
    std::vector<std::string> values;
    if (equals < argument.size()) values.push_back(argument.substr(equals + 1));
    while (i < arguments.size() && !arguments[i].starts_with("--")) values.push_back(arguments[i++]);
    if (name == "data" || name == "eval_data") {
      std::vector<std::string>& files = name == "data" ? options.data : options.eval_data;
      files.insert(files.end(), values.begin(), values.end());
      continue;
    }
    if (values.empty()) values.emplace_back("true");
    for (const std::string& value : values) options.common.push_back({name, value});
  }
  return options;
}

bool holds_pairs(const std::string& path, const std::map<std::string, std::string>& columns) {
  RecordReader reader(path, index_records(path));
  const auto first = reader.next();
  if (!first) throw_error<DataError>("{}: expected rows, got none", path);
  return find_row_format(first->object, columns, reader.where(*first)).shape == RowShape::kPreference;
}

std::string find_setting(const std::vector<Setting>& settings, const std::string& name) {
  const auto found = std::find_if(settings.begin(), settings.end(), [&](const Setting& s) { return s.name == name; });
  return found == settings.end() ? "" : found->value;
}

/// Files of rows to fine-tune on, and files of pairs.
struct FilesByShape {
  std::vector<Setting> sft, pairs;
};

/// Collective: rank 0 looks at the first row of each file.
FilesByShape sort_by_shape(const Communicator& comm, const AutoOptions& options) {
  const auto columns = parse_columns_option(find_setting(options.common, "columns"));
  std::string shapes;  // a letter for each file
  comm.run_on_rank0([&] {
    for (const auto* files : {&options.data, &options.eval_data})
      for (const std::string& path : *files) shapes += holds_pairs(path, columns) ? 'p' : 's';
  });
  comm.broadcast(shapes);
  FilesByShape sorted;
  size_t next = 0;
  for (const auto& [name, files] : {std::pair{"data", &options.data}, {"eval_data", &options.eval_data}})
    for (const std::string& path : *files) (shapes[next++] == 'p' ? sorted.pairs : sorted.sft).push_back({name, path});
  return sorted;
}

/// Throws UsageError where files to evaluate on are of no stage.
PipelineFile plan_by_rows(const AutoOptions& options, const FilesByShape& files) {
  PipelineFile file;
  file.common = options.common;
  const auto add = [&](const std::vector<Setting>& settings, const std::vector<Stage>& stages, const char* what) {
    if (settings.empty()) return;
    if (find_setting(settings, "data").empty())
      throw_error<UsageError>("--eval_data {}: holds {}, but no file of --data does, so no stage evaluates on it",
                              settings[0].value, what);
    for (const Stage stage : stages) file.sections.push_back({stage, settings});
  };
  add(files.sft, {Stage::kSft}, "rows to fine-tune on");
  add(files.pairs, {Stage::kReward, Stage::kDpo}, "preference pairs");
  return file;
}

}  // namespace

int run_auto(const std::vector<std::string>& arguments) {
  if (std::find(arguments.begin(), arguments.end(), "--help") != arguments.end()) {
    fmt::print(
        "usage: {}\n\nRows of instructions, messages or text make a stage sft, preference pairs the stages reward and\n"
        "dpo. Further options go to all stages that have them; plumb sft --help and so on list them. The pipeline "
        "file\n"
        "that says so is printed, kept as output_dir/pipeline.ini (plumb-auto without --output_dir), and run.\n",
        kUsage);
    return kExitDone;
  }
  AutoOptions options = parse_arguments(arguments);
  for (const Setting& setting : options.common) check_known_option(setting.name, {kStages.begin(), kStages.end()});
  if (find_setting(options.common, "model").empty()) throw_error<UsageError>("--model is required; usage: {}", kUsage);
  if (options.data.empty()) throw_error<UsageError>("--data is required; usage: {}", kUsage);
  if (find_setting(options.common, "output_dir").empty()) options.common.push_back({"output_dir", "plumb-auto"});
  return run_on_ranks([&](const Communicator& comm) {
    PipelineFile file;
    const FilesByShape files = sort_by_shape(comm, options);
    comm.run_agreed([&] {
      file = plan_by_rows(options, files);
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

}  // namespace plumb
