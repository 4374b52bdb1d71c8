#include "apps/pipeline_file.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <fstream>

#include "lib/base/check.hpp"

namespace plumb {

namespace po = boost::program_options;

namespace {

std::vector<std::string> options_of(Stage stage) {
  TrainOptions options = default_options(stage);
  OptionsDescription description;
  declare(description, options);
  return names_of(description);
}

bool contains(const std::vector<std::string>& names, const std::string& name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

bool contains(const std::vector<Setting>& settings, const std::string& name) {
  return std::any_of(settings.begin(), settings.end(), [&](const Setting& s) { return s.name == name; });
}

const PipelineFile::Section* find_section(const PipelineFile& file, Stage stage) {
  const auto found = std::find_if(file.sections.begin(), file.sections.end(),
                                  [&](const PipelineFile::Section& section) { return section.stage == stage; });
  return found == file.sections.end() ? nullptr : &*found;
}

/// A common option must be one that some stage of the file has.
void check_common(const PipelineFile& file) {
  std::vector<std::string> known;
  for (const PipelineFile::Section& section : file.sections)
    for (const std::string& name : options_of(section.stage))
      if (!contains(known, name)) known.push_back(name);
  for (const Setting& setting : file.common)
    if (!contains(known, setting.name)) throw_unknown_option(setting.name, known);
}

/// As a command line; options may be given several times, as lists are.
std::vector<std::string> arguments_of(const PipelineFile& file, const PipelineFile::Section& section) {
  const std::vector<std::string> known = options_of(section.stage);
  std::vector<Setting> settings;
  for (const Setting& setting : file.common)
    if (contains(known, setting.name) && !contains(section.settings, setting.name)) settings.push_back(setting);
  settings.insert(settings.end(), section.settings.begin(), section.settings.end());
  std::vector<std::string> arguments;
  for (const Setting& setting : settings) {
    if (setting.name == "output_dir" || setting.name == "overwrite_output_dir") continue;  // the pipeline's own
    arguments.push_back("--" + setting.name + "=" + setting.value);
  }
  return arguments;
}

}  // namespace

PipelineFile read_pipeline_file(const std::string& path) {
  std::ifstream stream(path);
  if (!stream) throw_error<InputOutputError>("{}: cannot be read", path);
  PipelineFile file;
  std::vector<PipelineFile::Section> sections;
  for (const Stage stage : kStages) sections.push_back({stage, {}});
  std::vector<std::string> names;
  for (const Stage stage : kStages) names.emplace_back(name_of(stage));
  std::vector<bool> is_there(sections.size(), false);
  try {
    const OptionsDescription nothing;
    for (const po::option& option : po::parse_config_file(stream, nothing, /*allow_unregistered=*/true).options) {
      const size_t dot = option.string_key.find('.');
      std::string name = option.string_key.substr(dot == std::string::npos ? 0 : dot + 1);
      std::replace(name.begin(), name.end(), '-', '_');
      const Setting setting{name, option.value.empty() ? "" : option.value.front()};
      if (dot == std::string::npos) {
        file.common.push_back(setting);
        continue;
      }
      const std::string section = option.string_key.substr(0, dot);
      const auto index = static_cast<size_t>(std::find(names.begin(), names.end(), section) - names.begin());
      if (index == names.size()) {
        const std::string nearest = nearest_name(section, names);
        throw_error<UsageError>("{}: section [{}]: expected one of [sft], [reward], [dpo]{}", path, section,
                                nearest.empty() ? "" : "; did you mean [" + nearest + "]?");
      }
      sections[index].settings.push_back(setting);
      is_there[index] = true;
    }
  } catch (const po::error& error) {
    throw_error<UsageError>("{}: {}", path, error.what());
  }
  for (size_t i = 0; i < sections.size(); ++i)
    if (is_there[i]) file.sections.push_back(std::move(sections[i]));
  if (file.sections.empty())
    throw_error<UsageError>("{}: expected a section for each stage to run: [sft], [reward] or [dpo], with its data",
                            path);
  return file;
}

std::string render_pipeline_file(const PipelineFile& file) {
  std::string text;
  for (const Setting& setting : file.common) text += fmt::format("{} = {}\n", setting.name, setting.value);
  for (const PipelineFile::Section& section : file.sections) {
    text += fmt::format("\n[{}]\n", name_of(section.stage));
    for (const Setting& setting : section.settings) text += fmt::format("{} = {}\n", setting.name, setting.value);
  }
  return text;
}

std::string pipeline_directory(const PipelineFile& file) {
  for (const Setting& setting : file.common)
    if (setting.name == "output_dir" && !setting.value.empty()) return setting.value;
  throw UsageError("a pipeline needs an output_dir above its sections: each stage gets a directory in it");
}

std::vector<PlannedStage> plan_pipeline(const PipelineFile& file) {
  check_common(file);
  const std::string directory = pipeline_directory(file);
  std::vector<PlannedStage> stages;
  for (const PipelineFile::Section& section : file.sections) {
    PlannedStage planned{default_options(section.stage), {}};
    TrainOptions& o = planned.options;
    try {
      if (contains(section.settings, "output_dir"))
        throw UsageError("output_dir stands above the sections: each stage gets a directory in it");
      OptionsDescription description;
      declare(description, o);
      parse_options("", description, {}, arguments_of(file, section), &o.texts);
      const bool follows_sft = section.stage != Stage::kSft && find_section(file, Stage::kSft);
      if (follows_sft && !contains(section.settings, "model")) {
        o.model.model = fmt::format("{}/sft/model", directory);
        planned.needs.push_back(Stage::kSft);
      }
      const bool has_reward = section.stage == Stage::kDpo && find_section(file, Stage::kReward);
      if (has_reward && !contains(section.settings, "reward_model")) {
        o.dpo.reward_model = fmt::format("{}/reward/model", directory);
        planned.needs.push_back(Stage::kReward);
      }
      o.output_dir = fmt::format("{}/{}", directory, name_of(section.stage));
      if (o.model.model.empty()) throw UsageError("model: expected a model directory, here or above the sections");
      if (o.data.data.empty()) throw UsageError("data: expected a file of rows; several take a line each");
      validate(o);
    } catch (const UsageError& error) {
      throw_error<UsageError>("[{}]: {}", name_of(section.stage), error.what());
    }
    for (auto& [name, value] : o.texts) {
      if (name == "model") value = o.model.model;
      if (name == "reward_model") value = o.dpo.reward_model;
      if (name == "output_dir") value = o.output_dir;
    }
    stages.push_back(std::move(planned));
  }
  return stages;
}

}  // namespace plumb
