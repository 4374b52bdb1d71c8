// plumb auto: only a model and data are given. The shapes of the rows decide which stages run: instructions and texts
// make an [sft], preference pairs a [reward] and a [dpo]. Prints the pipeline file that says so, then runs it.
#include <fmt/format.h>

#include <algorithm>

#include "apps/commands.hpp"
#include "apps/pipeline.hpp"
#include "io/file.hpp"
#include "io/record_file.hpp"
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
    if (values.size() > 1)
      throw_error<UsageError>("{}: an argument without an option before it; usage: {}", values[1], kUsage);
    options.common.push_back({name, values.empty() ? "true" : values[0]});
  }
  return options;
}

bool holds_pairs(const std::string& path) {
  RecordReader reader(path, index_records(path));
  const auto first = reader.next();
  if (!first) throw_error<DataError>("{}: expected rows, got none", path);
  return find_row_format(first->object, {}, reader.where(*first)).shape == RowShape::kPreference;
}

PipelineFile plan_by_rows(const AutoOptions& options) {
  std::vector<Setting> sft, pairs;
  for (const auto& [name, files] : {std::pair{"data", &options.data}, {"eval_data", &options.eval_data}})
    for (const std::string& path : *files) (holds_pairs(path) ? pairs : sft).push_back({name, path});
  const auto has_data = [](const std::vector<Setting>& settings) {
    return std::any_of(settings.begin(), settings.end(), [](const Setting& s) { return s.name == "data"; });
  };
  PipelineFile file;
  file.common = options.common;
  if (has_data(sft)) file.sections.push_back({Stage::kSft, sft});
  if (has_data(pairs)) {
    file.sections.push_back({Stage::kReward, pairs});
    file.sections.push_back({Stage::kDpo, pairs});
  }
  return file;
}

}  // namespace

int run_auto(const std::vector<std::string>& arguments) {
  if (std::find(arguments.begin(), arguments.end(), "--help") != arguments.end()) {
    fmt::print("usage: {}\n\nRows of instructions, messages or text make a stage sft, preference pairs the stages reward and\n"
               "dpo. Further options go to all stages that have them; plumb sft --help and so on list them.\n",
               kUsage);
    return kExitDone;
  }
  AutoOptions options = parse_arguments(arguments);
  const auto is_given = [&](const char* name) {
    return std::any_of(options.common.begin(), options.common.end(), [&](const Setting& s) { return s.name == name; });
  };
  if (!is_given("model")) throw_error<UsageError>("--model is required; usage: {}", kUsage);
  if (options.data.empty()) throw_error<UsageError>("--data is required; usage: {}", kUsage);
  if (!is_given("output_dir")) options.common.push_back({"output_dir", "plumb-auto"});
  const PipelineFile file = plan_by_rows(options);
  plan_pipeline(file);
  const std::string text = render_pipeline_file(file);
  if (rank_in_environment() == 0) {
    fmt::print("{}\n", text);
    std::fflush(stdout);
  }
  return run_on_ranks([&](const Communicator& comm) {
    run_stages(comm, file);
    comm.run_on_rank0([&] { write_file_atomically(pipeline_directory(file) + "/pipeline.ini", text); });
    return static_cast<int>(kExitDone);
  });
}

}  // namespace plumb
