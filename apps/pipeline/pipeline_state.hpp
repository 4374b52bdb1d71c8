// Where every stage of a pipeline stands, kept in pipeline.json, and what its result was made from: options, and the
// contents of the files that they name. A stage whose inputs are what they were is done.
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
  /// Takes up what is in `directory`, which it makes, and sets the gradient_accumulation_steps with which the steps of
  /// each stage have the rows that they had on the ranks of the first start. Throws DataError if pipeline.json is
  /// spoilt, UsageError if this number of ranks cannot share the micro-batches of a stage to run, InputOutputError.
  PipelineState(const std::string& directory, std::vector<PlannedStage>& stages, int num_ranks);

  /// Why the stage has to run, for people: "" if it is done.
  std::string reason_to_run(size_t stage, const Inputs& inputs) const;
  /// Whether it ran at all, to its end or not.
  bool has_begun(size_t stage) const { return stages_[stage]["status"] != "pending"; }

  /// Writes pipeline.json and the report. Throws InputOutputError.
  void set(size_t stage, const std::string& status, double seconds, const Inputs& inputs);
  void write() const;

 private:
  std::string directory_;
  nlohmann::ordered_json stages_;
};

}  // namespace plumb
