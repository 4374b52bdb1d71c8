#include "apps/options/pipeline_file.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "apps/options/ini.hpp"
#include "io/file/file.hpp"
#include "lib/base/check.hpp"
#include "lib/base/redact.hpp"
#include "lib/base/text_format.hpp"

namespace plumb {

namespace {

constexpr int64_t kMaxFileBytes = 16 << 20;

const PipelineFile::Section* find_section(const PipelineFile& file, Stage stage) {
  const auto found = std::find_if(file.sections.begin(), file.sections.end(),
                                  [&](const PipelineFile::Section& section) { return section.stage == stage; });
  return found == file.sections.end() ? nullptr : &*found;
}

Stage parse_section(std::string_view line) {
  std::string name(line.substr(1, line.size() - (line.ends_with(']') ? 2 : 1)));
  std::erase_if(name, [](char c) { return c == ' ' || c == '\t'; });
  for (const Stage stage : kStages)
    if (line.ends_with(']') && name == name_of(stage)) return stage;
  throw_error<UsageError>("section {}: expected one of [{}]{}", line, fmt::join(names_of<Stage>(), "], ["),
                          did_you_mean(name, names_of<Stage>(), "[", "]"));
}

/// A common option must be one that some stage of the file has.
void check_common(const PipelineFile& file) {
  std::vector<Stage> stages;
  for (const PipelineFile::Section& section : file.sections) stages.push_back(section.stage);
  for (const Setting& setting : file.common) check_known_option(setting, stages);
  if (has_setting(file.common, "overwrite_output_dir"))
    throw_error<UsageError>(
        "overwrite_output_dir: a pipeline decides by its inputs which stages run again, so leave it out; remove {} to "
        "run everything",
        pipeline_directory(file));
}

/// Its own settings, and the common ones of options that it has and does not set.
Settings settings_of(const PipelineFile& file, const PipelineFile::Section& section) {
  for (const Setting& setting : section.settings) {
    check_known_option(setting, {section.stage});
    if (setting.name == "output_dir" || setting.name == "overwrite_output_dir")
      throw_error<UsageError>("{}{}: belongs above the sections: each stage gets a directory in output_dir",
                              setting.where, setting.name);
  }
  Settings settings = override_settings(section.settings, file.common);
  std::erase_if(settings, [&](const Setting& setting) {
    return setting.name == "output_dir" || !find_option(training_options(section.stage), setting.name);
  });
  return settings;
}

PlannedStage plan_stage(const PipelineFile& file, const PipelineFile::Section& section, const std::string& directory) {
  PlannedStage planned{parse_train_options(section.stage, settings_of(file, section)), {}};
  TrainOptions& o = planned.options;
  const bool follows_sft = section.stage != Stage::kSft && find_section(file, Stage::kSft);
  if (follows_sft && !has_setting(section.settings, "model")) {
    o.model.model = fmt::format("{}/sft/model", directory);
    if (!o.lora.adapter.empty())
      throw_error<UsageError>(
          "adapter {}: belongs to the model that the pipeline starts from, so in [sft]; later stages start from the "
          "merged model, with an adapter of their own where lora_r is above 0",
          o.lora.adapter);
    planned.needs.push_back(Stage::kSft);
  }
  const bool has_reward = section.stage == Stage::kDpo && find_section(file, Stage::kReward);
  if (has_reward && !has_setting(section.settings, "reward_model")) {
    o.dpo.reward_model = fmt::format("{}/reward/model", directory);
    planned.needs.push_back(Stage::kReward);
  }
  if (makes_rollouts(section.stage) && find_section(file, Stage::kReward) && o.rl.rollouts.empty() &&
      !has_setting(section.settings, "reward_model")) {
    o.rl.reward_model = {fmt::format("{}/reward/model", directory)};
    planned.needs.push_back(Stage::kReward);
  }
  o.output_dir = fmt::format("{}/{}", directory, name_of(section.stage));
  o.exports_merged = o.lora.is_used();
  if (o.model.model.empty()) throw UsageError("model: expected a model directory, here or above the sections");
  if (o.data.data.empty() && o.rl.rollouts.empty())
    throw UsageError("data: expected a file of rows; several take a line each");
  validate(o);
  for (auto& [name, value] : o.texts) {
    if (name == "model") value = redact_secrets(o.model.model);
    if (name == "reward_model")
      value = redact_secrets(makes_rollouts(section.stage) ? fmt::format("{}", fmt::join(o.rl.reward_model, " "))
                                                           : o.dpo.reward_model);
    if (name == "output_dir") value = redact_secrets(o.output_dir);
  }
  return planned;
}

std::string prefix_of(const PipelineFile& file) { return file.path.empty() ? "" : file.path + ": "; }

}  // namespace

void check_known_option(const Setting& setting, const std::vector<Stage>& stages) {
  std::vector<std::string> known;
  for (const Stage stage : stages)
    for (const Option& option : training_options(stage)) known.push_back(option.name);
  if (std::find(known.begin(), known.end(), setting.name) != known.end()) return;
  std::vector<std::string_view> others;
  for (const Stage stage : kStages)
    if (find_option(training_options(stage), setting.name)) others.push_back(name_of(stage));
  if (!others.empty())
    throw_error<UsageError>("{}{}: expected an option of {}, got one of {}", setting.where, setting.name,
                            stages.size() == 1 ? name_of(stages[0]) : "a stage that runs", fmt::join(others, " and "));
  throw_unknown_option(setting, known);
}

PipelineFile parse_pipeline_file(std::string_view text, const std::string& path) {
  PipelineFile file{path, {}, {}};
  for (IniSection& section : parse_ini(text, path)) {
    if (section.line.empty()) {
      file.common = std::move(section.settings);
      continue;
    }
    try {
      const Stage stage = parse_section(section.line);
      if (find_section(file, stage)) throw_error<UsageError>("section {}: expected once, got twice", section.line);
      file.sections.push_back({stage, std::move(section.settings)});
    } catch (const UsageError& error) {
      throw_error<UsageError>("{}: {}{}", path, section.where, error.what());
    }
  }
  if (file.sections.empty())
    throw_error<UsageError>("{}: expected a section for each stage to run, with its data: [{}]", path,
                            fmt::join(names_of<Stage>(), "], ["));
  std::sort(file.sections.begin(), file.sections.end(), [](const auto& a, const auto& b) { return a.stage < b.stage; });
  return file;
}

PipelineFile read_pipeline_file(const std::string& path) {
  return parse_pipeline_file(read_text_file(path, kMaxFileBytes), path);
}

std::string render_pipeline_file(const PipelineFile& file) {
  std::string text;
  for (const Setting& setting : file.common) text += render_setting(setting);
  for (const PipelineFile::Section& section : file.sections) {
    text += fmt::format("\n[{}]\n", name_of(section.stage));
    for (const Setting& setting : section.settings) text += render_setting(setting);
  }
  return text;
}

std::string pipeline_directory(const PipelineFile& file) {
  std::string directory;
  for (const Setting& setting : file.common) {
    if (setting.name != "output_dir") continue;
    if (!directory.empty()) throw_error<UsageError>("{}output_dir: expected once, got twice", prefix_of(file));
    directory = setting.value;
  }
  if (directory.empty())
    throw_error<UsageError>("{}expected an output_dir above the sections: each stage gets a directory in it",
                            prefix_of(file));
  return directory;
}

std::vector<PlannedStage> plan_pipeline(const PipelineFile& file) {
  const std::string directory = pipeline_directory(file);
  std::vector<PlannedStage> stages;
  try {
    check_common(file);
    for (const PipelineFile::Section& section : file.sections) {
      try {
        stages.push_back(plan_stage(file, section, directory));
      } catch (const UsageError& error) {
        throw_error<UsageError>("[{}]: {}", name_of(section.stage), error.what());
      }
    }
  } catch (const UsageError& error) {
    throw_error<UsageError>("{}{}", prefix_of(file), error.what());
  }
  return stages;
}

}  // namespace plumb
