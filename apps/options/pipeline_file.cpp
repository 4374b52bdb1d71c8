#include "apps/options/pipeline_file.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <map>

#include "io/file/file.hpp"
#include "lib/base/check.hpp"
#include "lib/base/redact.hpp"
#include "lib/base/text_format.hpp"

namespace plumb {

namespace {

constexpr int64_t kMaxFileBytes = 16 << 20;
constexpr const char* kBlanks = " \t";

const std::vector<std::string>& options_of(Stage stage) {
  static const std::map<Stage, std::vector<std::string>> names = [] {
    std::map<Stage, std::vector<std::string>> of_stages;
    for (const Stage each : kStages) {
      TrainOptions options = default_options(each);
      OptionsDescription description;
      declare(description, options);
      of_stages[each] = names_of(description);
    }
    return of_stages;
  }();
  return names.at(stage);
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

std::string_view trim(std::string_view text) {
  text.remove_prefix(std::min(text.find_first_not_of(kBlanks), text.size()));
  const size_t last = text.find_last_not_of(kBlanks);
  return text.substr(0, last == std::string_view::npos ? 0 : last + 1);
}

/// Up to a `#` that starts a comment.
std::string_view without_comment(std::string_view text) {
  for (size_t i = text.find('#'); i != std::string_view::npos; i = text.find('#', i + 1))
    if (i == 0 || text[i - 1] == ' ' || text[i - 1] == '\t') return trim(text.substr(0, i));
  return text;
}

/// What stands in quotes at the beginning of `text`.
std::string parse_quoted(std::string_view text) {
  std::string value;
  for (size_t i = 1; i < text.size(); ++i) {
    if (text[i] == '"') {
      const std::string_view rest = trim(text.substr(i + 1));
      if (!without_comment(rest).empty()) throw_error<UsageError>("expected nothing after the quotes, got {}", rest);
      return value;
    }
    const bool is_escape = text[i] == '\\' && i + 1 < text.size() && (text[i + 1] == '"' || text[i + 1] == '\\');
    if (is_escape) ++i;
    value += text[i];
  }
  throw UsageError("expected a quote that closes the value");
}

Setting parse_setting(std::string_view line) {
  const size_t equals = line.find('=');
  if (equals == std::string_view::npos || equals == 0)
    throw_error<UsageError>("expected name = value or [section], got {}", line);
  Setting setting{std::string(trim(line.substr(0, equals))), ""};
  std::replace(setting.name.begin(), setting.name.end(), '-', '_');
  const std::string_view value = trim(line.substr(equals + 1));
  setting.value = value.starts_with('"') ? parse_quoted(value) : without_comment(value);
  if (setting.value.empty())
    throw_error<UsageError>("{}: expected a value, got none; without the line the default holds", setting.name);
  return setting;
}

Stage parse_section(std::string_view line) {
  line = without_comment(line);
  const std::string name(trim(line.substr(1, line.size() - (line.ends_with(']') ? 2 : 1))));
  for (const Stage stage : kStages)
    if (line.ends_with(']') && name == name_of(stage)) return stage;
  throw_error<UsageError>("section {}: expected one of [sft], [reward], [dpo]{}", line,
                          did_you_mean(name, names_of<Stage>(), "[", "]"));
}

std::string render_setting(const Setting& setting) {
  const std::string& value = setting.value;
  if (value.find_first_of("\r\n") != std::string::npos)
    throw_error<UsageError>("{}: expected a value of one line, got several", setting.name);
  const bool is_plain = !value.empty() && value.front() != '"' && without_comment(trim(value)) == value;
  if (is_plain) return fmt::format("{} = {}\n", setting.name, value);
  std::string quoted;
  for (const char c : value) quoted += c == '"' || c == '\\' ? std::string{'\\', c} : std::string{c};
  return fmt::format("{} = \"{}\"\n", setting.name, quoted);
}

/// A common option must be one that some stage of the file has.
void check_common(const PipelineFile& file) {
  std::vector<Stage> stages;
  for (const PipelineFile::Section& section : file.sections) stages.push_back(section.stage);
  for (const Setting& setting : file.common) check_known_option(setting.name, stages);
  if (contains(file.common, "overwrite_output_dir"))
    throw_error<UsageError>(
        "overwrite_output_dir: expected to be left out: a pipeline runs again what its inputs make it; remove {} to "
        "run everything",
        pipeline_directory(file));
}

/// As a command line; options may be given several times, as lists are.
std::vector<std::string> arguments_of(const PipelineFile& file, const PipelineFile::Section& section) {
  const std::vector<std::string>& known = options_of(section.stage);
  std::vector<Setting> settings;
  for (const Setting& setting : file.common)
    if (contains(known, setting.name) && !contains(section.settings, setting.name)) settings.push_back(setting);
  for (const Setting& setting : section.settings) {
    check_known_option(setting.name, {section.stage});
    if (setting.name == "output_dir" || setting.name == "overwrite_output_dir")
      throw_error<UsageError>("{}: stands above the sections: each stage gets a directory in output_dir", setting.name);
    settings.push_back(setting);
  }
  std::vector<std::string> arguments;
  for (const Setting& setting : settings)
    if (setting.name != "output_dir") arguments.push_back("--" + setting.name + "=" + setting.value);
  return arguments;
}

PlannedStage plan_stage(const PipelineFile& file, const PipelineFile::Section& section, const std::string& directory) {
  PlannedStage planned{default_options(section.stage), {}};
  TrainOptions& o = planned.options;
  OptionsDescription description;
  declare(description, o);
  parse_options("", description, {}, arguments_of(file, section), &o.texts);
  const bool follows_sft = section.stage != Stage::kSft && find_section(file, Stage::kSft);
  if (follows_sft && !contains(section.settings, "model")) {
    o.model.model = fmt::format("{}/sft/model", directory);
    if (!o.lora.adapter.empty())
      throw_error<UsageError>(
          "adapter {}: belongs to the model that the pipeline starts from, so in [sft]; later stages start from the "
          "merged model, with an adapter of their own where lora_r is above 0",
          o.lora.adapter);
    planned.needs.push_back(Stage::kSft);
  }
  const bool has_reward = section.stage == Stage::kDpo && find_section(file, Stage::kReward);
  if (has_reward && !contains(section.settings, "reward_model")) {
    o.dpo.reward_model = fmt::format("{}/reward/model", directory);
    planned.needs.push_back(Stage::kReward);
  }
  o.output_dir = fmt::format("{}/{}", directory, name_of(section.stage));
  o.exports_merged = o.lora.is_used();
  if (o.model.model.empty()) throw UsageError("model: expected a model directory, here or above the sections");
  if (o.data.data.empty()) throw UsageError("data: expected a file of rows; several take a line each");
  validate(o);
  for (auto& [name, value] : o.texts) {
    if (name == "model") value = redact_secrets(o.model.model);
    if (name == "reward_model") value = redact_secrets(o.dpo.reward_model);
    if (name == "output_dir") value = redact_secrets(o.output_dir);
  }
  return planned;
}

std::string prefix_of(const PipelineFile& file) { return file.path.empty() ? "" : file.path + ": "; }

}  // namespace

void check_known_option(const std::string& name, const std::vector<Stage>& stages) {
  std::vector<std::string> known;
  for (const Stage stage : stages)
    for (const std::string& option : options_of(stage)) known.push_back(option);
  if (contains(known, name)) return;
  std::vector<std::string_view> others;
  for (const Stage stage : kStages)
    if (contains(options_of(stage), name)) others.push_back(name_of(stage));
  if (!others.empty())
    throw_error<UsageError>("{}: expected an option of {}, got one of {}", name,
                            stages.size() == 1 ? name_of(stages[0]) : "a stage that runs", fmt::join(others, " and "));
  throw_unknown_option(name, known);
}

PipelineFile parse_pipeline_file(std::string_view text, const std::string& path) {
  if (text.starts_with("\xef\xbb\xbf")) text.remove_prefix(3);
  PipelineFile file{path, {}, {}};
  std::vector<Setting>* settings = &file.common;
  int64_t number = 0;
  for (size_t begin = 0; begin < text.size(); ++number) {
    const size_t end = std::min(text.find('\n', begin), text.size());
    std::string_view line = text.substr(begin, end - begin);
    begin = end + 1;
    if (line.ends_with('\r')) line.remove_suffix(1);
    line = trim(line);
    if (line.empty() || line.front() == '#' || line.front() == ';') continue;
    try {
      for (const char c : line)
        if (static_cast<unsigned char>(c) < ' ' && c != '\t')
          throw_error<UsageError>("expected text, got the control character {:#04x}", static_cast<int>(c));
      if (line.front() != '[') {
        settings->push_back(parse_setting(line));
        continue;
      }
      const Stage stage = parse_section(line);
      if (find_section(file, stage)) throw_error<UsageError>("section {}: expected once, got twice", line);
      settings = &file.sections.emplace_back(PipelineFile::Section{stage, {}}).settings;
    } catch (const UsageError& error) {
      throw_error<UsageError>("{}: line {}: {}", path, number + 1, error.what());
    }
  }
  if (file.sections.empty())
    throw_error<UsageError>("{}: expected a section for each stage to run: [sft], [reward] or [dpo], with its data",
                            path);
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
