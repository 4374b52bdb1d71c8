// Sweeps: the same run with other values of some options, each combination a task of a job array.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "apps/options/pipeline_file.hpp"

namespace plumb {

/// A file of plumb pipeline, or of one stage (--config), which then has no sections.
struct RunFile {
  PipelineFile file;
  std::optional<Stage> stage;  // of a file without sections
};

/// "seed=1..5", "learning_rate=1e-5,3e-5" or "dpo.beta=0.1,0.3", for an option of one section.
struct SweptOption {
  std::optional<Stage> stage;
  std::string name;
  std::vector<std::string> values;
};

/// Throws UsageError: another form, an option that is swept twice, more than a thousand combinations.
std::vector<SweptOption> parse_sweep(const std::vector<std::string>& items);

struct SweepTask {
  std::string name;  // "seed-1", "beta-0.1_seed-1": its directory below output_dir
  RunFile run;       // with these values and an output_dir of its own
};

/// One task for each combination, the last option changing fastest; none without options. Throws UsageError for an
/// option that the file sets in a section, which would win, and for tasks that would share a directory.
std::vector<SweepTask> sweep(const RunFile& run, const std::vector<SweptOption>& options);

/// Sets an option above the sections, or in one, in place of what the file has.
void set_option(PipelineFile& file, std::optional<Stage> stage, const std::string& name, const std::string& value);

}  // namespace plumb
