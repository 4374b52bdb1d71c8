// align.ini: options that all stages share, then a section for each stage that is to run. What one stage makes is what
// the next takes: reward and dpo start from sft's model, and dpo is given the reward model.
// A line is `name = value`, `[section]` or a comment; `#` starts a comment at the beginning of a line or after a blank.
// A value in double quotes is taken as it is, with \" and \\ for these two. Lists take a line for each item.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "apps/options/train_options.hpp"

namespace plumb {

/// One line of the file.
struct Setting {
  std::string name;
  std::string value;

  bool operator==(const Setting&) const = default;
};

struct PipelineFile {
  std::string path;  // for messages; "" where there is no file
  std::vector<Setting> common;
  struct Section {
    Stage stage;
    std::vector<Setting> settings;
  };
  std::vector<Section> sections;  // in the order in which stages run: sft, reward, dpo
};

/// Throws UsageError with the line: a line that is none, an unknown section, no section at all.
PipelineFile parse_pipeline_file(std::string_view text, const std::string& path);

/// Throws what parse_pipeline_file() throws, and InputOutputError.
PipelineFile read_pipeline_file(const std::string& path);

/// The text that reads back as `file`. Throws UsageError for a value of several lines.
std::string render_pipeline_file(const PipelineFile& file);

struct PlannedStage {
  TrainOptions options;
  std::vector<Stage> needs;  // earlier stages whose results it takes
};

/// Options of each stage: the common ones that it has, then its own. output_dir is a directory of its own below the
/// common one. Throws UsageError for an option that no stage has, and for bad values, naming the section.
std::vector<PlannedStage> plan_pipeline(const PipelineFile& file);

/// The common output_dir. Throws UsageError where there is none.
std::string pipeline_directory(const PipelineFile& file);

/// Throws UsageError for an option that none of the stages has: of which stages it is, or what may have been meant.
void check_known_option(const std::string& name, const std::vector<Stage>& stages);

}  // namespace plumb
