// The file of plumb pipeline: options that all stages share, then a section for each stage to run. Later stages start
// from the results of earlier ones: reward and dpo from the model of sft, and dpo uses the reward model of reward.
// The syntax is that of ini.hpp.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "apps/options/train_options.hpp"

namespace plumb {

struct PipelineFile {
  std::string path;  // for messages; "" where there is no file
  Settings common;
  struct Section {
    Stage stage;
    Settings settings;
  };
  std::vector<Section> sections;  // in the order in which stages run: sft, reward, dpo
};

/// Throws UsageError with the line: a line that cannot be read, an unknown section, no section at all.
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

/// Throws UsageError for an option that none of the stages has, naming the stages that have it or the nearest name.
void check_known_option(const Setting& setting, const std::vector<Stage>& stages);

}  // namespace plumb
