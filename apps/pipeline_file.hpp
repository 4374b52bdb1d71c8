// align.ini: options that all stages share, then a section for each stage that is to run. What one stage makes is what
// the next takes: reward and dpo start from sft's model, and dpo is given the reward model.
#pragma once

#include <string>
#include <vector>

#include "apps/train_options.hpp"

namespace plumb {

/// One line of the file.
struct Setting {
  std::string name;
  std::string value;
};

struct PipelineFile {
  std::vector<Setting> common;
  struct Section {
    Stage stage;
    std::vector<Setting> settings;
  };
  std::vector<Section> sections;  // in the order in which stages run: sft, reward, dpo
};

/// Throws InputOutputError, UsageError: a line that is none, an unknown section, no section at all.
PipelineFile read_pipeline_file(const std::string& path);

/// The text that reads back as `file`.
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

}  // namespace plumb
