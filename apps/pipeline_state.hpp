// Where every stage of a pipeline stands, kept in pipeline.json, and what its result was made from: options, and the
// contents of the files that they name. A stage whose inputs are what they were is done.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "apps/pipeline_file.hpp"
#include "partition/communicator.hpp"

namespace plumb {

/// Name and value.
using Inputs = OptionTexts;

/// Collective. The models that earlier stages make must be there.
Inputs describe_inputs(const Communicator& comm, const TrainOptions& options);

/// Which inputs matter and differ, for people: "learning_rate: 1e-06, now 5e-07"; "" if none does. Paths do not matter
/// where the contents are the same, nor does the number of ranks; gradient_accumulation_steps does where it changes the
/// rows of a step.
std::string describe_changes(const Inputs& before, const Inputs& now);

/// Rank 0 only.
class PipelineState {
 public:
  /// Takes up what is in `directory`, which it makes. Throws DataError if pipeline.json is spoilt, InputOutputError.
  PipelineState(const std::string& directory, const std::vector<PlannedStage>& stages);

  /// Why the stage has to run, for people: "" if it is done.
  std::string reason_to_run(size_t stage, const Inputs& inputs) const;

  /// Writes pipeline.json and the report. Throws InputOutputError.
  void set(size_t stage, const std::string& status, double seconds, const Inputs& inputs);
  void write() const;

 private:
  std::string directory_;
  nlohmann::ordered_json stages_;
};

}  // namespace plumb
