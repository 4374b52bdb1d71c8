// An INI file as that of a pipeline and as that of --config. Accepted input round-trips, and becomes options or is
// refused.
#include "apps/options/pipeline_file.hpp"

#include "apps/options/ini.hpp"
#include "tests/fuzz/fuzz_target.hpp"
#include "tests/fuzz/input_file.hpp"

namespace plumb::fuzz {

namespace {

bool are_equal(const PipelineFile& a, const PipelineFile& b) {
  if (a.common != b.common || a.sections.size() != b.sections.size()) return false;
  for (size_t i = 0; i < a.sections.size(); ++i)
    if (a.sections[i].stage != b.sections[i].stage || a.sections[i].settings != b.sections[i].settings) return false;
  return true;
}

void read_as_config(std::string_view input) {
  const Settings settings = read_config_file(input_directory().write("input.ini", input));
  validate(parse_train_options(Stage::kDpo, settings));
}

}  // namespace

bool accepts(std::string_view input) {
  is_accepted([&] { read_as_config(input); });
  PipelineFile file;
  if (!is_accepted([&] { file = parse_pipeline_file(input, "pipeline.ini"); })) return false;
  std::string rendered;
  if (is_accepted([&] { rendered = render_pipeline_file(file); }))
    require(are_equal(parse_pipeline_file(rendered, "again.ini"), file), "a file reads back");
  return is_accepted([&] {
    const std::vector<PlannedStage> stages = plan_pipeline(file);
    require(stages.size() == file.sections.size(), "every section is a stage");
    for (const PlannedStage& stage : stages)
      require(stage.options.output_dir.starts_with(pipeline_directory(file) + "/"), "stages stay in their directory");
  });
}

}  // namespace plumb::fuzz
