#include "apps/batch/sweep.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <charconv>
#include <set>

#include "lib/base/check.hpp"

namespace plumb {

namespace {

constexpr size_t kMaxTasks = 1000;  // Slurm's own limit of an array, unless a site has changed it

std::optional<int64_t> whole_number(std::string_view text) {
  int64_t number = 0;
  const auto read = std::from_chars(text.data(), text.data() + text.size(), number);
  return !text.empty() && read.ec == std::errc() && read.ptr == text.data() + text.size() ? std::optional(number)
                                                                                          : std::nullopt;
}

[[noreturn]] void throw_bad_item(const std::string& item, std::string_view why) {
  throw_error<UsageError>("--array {}: expected OPTION=1..5 or OPTION=VALUE,VALUE, got {}", item, why);
}

std::vector<std::string> parse_values(const std::string& item, const std::string& text) {
  std::vector<std::string> values;
  if (const size_t dots = text.find(".."); dots != std::string::npos) {
    const auto first = whole_number(std::string_view(text).substr(0, dots));
    const auto last = whole_number(std::string_view(text).substr(dots + 2));
    if (!first || !last || *last < *first) throw_bad_item(item, "no range of whole numbers");
    if (*last - *first >= static_cast<int64_t>(kMaxTasks)) throw_bad_item(item, "more than a thousand values");
    for (int64_t value = *first; value <= *last; ++value) values.push_back(std::to_string(value));
    return values;
  }
  for (size_t begin = 0; begin <= text.size();) {
    const size_t end = std::min(text.find(',', begin), text.size());
    if (end == begin) throw_bad_item(item, "an empty value");
    values.push_back(text.substr(begin, end - begin));
    begin = end + 1;
  }
  return values;
}

std::string name_of_value(const SweptOption& option, const std::string& value) {
  std::string name = option.stage ? fmt::format("{}.{}-{}", name_of(*option.stage), option.name, value)
                                  : fmt::format("{}-{}", option.name, value);
  for (char& c : name)
    if (std::isalnum(static_cast<unsigned char>(c)) == 0 && c != '.' && c != '-' && c != '_' && c != '+') c = '_';
  return name;
}

/// The option that the file sets in a section would win over the common one.
void check_reaches_all(const RunFile& run, const SweptOption& option) {
  if (option.name == "output_dir" || option.name == "overwrite_output_dir")
    throw_error<UsageError>("--array {}: every task gets an output_dir of its own already", option.name);
  if (option.stage && run.stage)
    throw_error<UsageError>("--array {}.{}: {} has no sections", name_of(*option.stage), option.name, run.file.path);
  for (const PipelineFile::Section& section : run.file.sections)
    if (!option.stage && has_setting(section.settings, option.name))
      throw_error<UsageError>("--array {0}: {1} sets {0} in [{2}], which would win; sweep {2}.{0}", option.name,
                              run.file.path, name_of(section.stage));
}

}  // namespace

std::vector<SweptOption> parse_sweep(const std::vector<std::string>& items) {
  std::vector<SweptOption> options;
  size_t num_tasks = 1;
  for (const std::string& item : items) {
    const size_t equals = item.find('=');
    if (equals == std::string::npos || equals == 0) throw_bad_item(item, "no option");
    SweptOption option{std::nullopt, item.substr(0, equals), parse_values(item, item.substr(equals + 1))};
    std::replace(option.name.begin(), option.name.end(), '-', '_');
    if (const size_t dot = option.name.find('.'); dot != std::string::npos) {
      option.stage = value_named<Stage>(option.name.substr(0, dot), "array");
      option.name = option.name.substr(dot + 1);
    }
    for (const SweptOption& other : options)
      if (other.name == option.name && other.stage == option.stage)
        throw_bad_item(item, "an option that is swept twice");
    num_tasks *= option.values.size();
    if (num_tasks > kMaxTasks)
      throw_error<UsageError>("--array: expected at most {} combinations, got {}", kMaxTasks, num_tasks);
    options.push_back(std::move(option));
  }
  return options;
}

void set_option(PipelineFile& file, std::optional<Stage> stage, const std::string& name, const std::string& value) {
  Settings* settings = &file.common;
  if (stage) {
    const auto section = std::find_if(file.sections.begin(), file.sections.end(),
                                      [&](const PipelineFile::Section& s) { return s.stage == *stage; });
    if (section == file.sections.end())
      throw_error<UsageError>("{}.{}: {} has no section [{}]", name_of(*stage), name, file.path, name_of(*stage));
    settings = &section->settings;
  }
  std::erase_if(*settings, [&](const Setting& setting) { return setting.name == name; });
  settings->push_back({name, value});
}

std::vector<SweepTask> sweep(const RunFile& run, const std::vector<SweptOption>& options) {
  if (options.empty()) return {};
  for (const SweptOption& option : options) check_reaches_all(run, option);
  const std::string directory = pipeline_directory(run.file);
  std::vector<SweepTask> tasks = {{"", run}};
  for (const SweptOption& option : options) {
    std::vector<SweepTask> longer;
    for (const SweepTask& task : tasks)
      for (const std::string& value : option.values) {
        SweepTask& added = longer.emplace_back(task);
        added.name = fmt::format("{}{}{}", task.name, task.name.empty() ? "" : "_", name_of_value(option, value));
        set_option(added.run.file, option.stage, option.name, value);
      }
    tasks = std::move(longer);
  }
  std::set<std::string> names;
  for (SweepTask& task : tasks) {
    if (!names.insert(task.name).second)
      throw_error<UsageError>("--array: two tasks would write to {}/{}; give each value once", directory, task.name);
    set_option(task.run.file, std::nullopt, "output_dir", fmt::format("{}/{}", directory, task.name));
  }
  return tasks;
}

}  // namespace plumb
