// The state of every stage of a pipeline, stored in pipeline.json: its status, and the inputs of its result. A
// completed stage whose inputs are unchanged is done.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "apps/options/pipeline_file.hpp"
#include "apps/run/inputs.hpp"

namespace plumb {

/// Rank 0 only.
class PipelineState {
 public:
  /// Creates `directory` if it is missing and reads its pipeline.json. Sets gradient_accumulation_steps of each stage
  /// so that its steps keep the rows that they had on the ranks of its first start. Throws DataError if pipeline.json
  /// is corrupt, UsageError if this number of ranks cannot share the micro-batches of a stage, InputOutputError.
  PipelineState(const std::string& directory, std::vector<PlannedStage>& stages, int num_ranks);

  /// Why the stage has to run, human-readable; "" if it is done.
  std::string reason_to_run(size_t stage, const Inputs& inputs) const;
  /// Whether the stage was ever started.
  bool was_started(size_t stage) const { return stages_[stage]["status"] != "pending"; }

  /// Writes pipeline.json and the report. Throws InputOutputError.
  void set(size_t stage, const std::string& status, double seconds, const Inputs& inputs);
  void write() const;

 private:
  std::string directory_;
  nlohmann::ordered_json stages_;
};

}  // namespace plumb
