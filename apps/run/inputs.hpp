// The inputs of a run: its options, and the contents of the files that they name. A run resumes, and a stage of a
// pipeline counts as done, only if its inputs are unchanged.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "apps/options/train_options.hpp"
#include "partition/communicator.hpp"

namespace plumb {

/// Pairs of name and value.
using Inputs = OptionTexts;

/// Collective: the inputs of a run. The models of earlier stages must have been exported.
Inputs describe_inputs(const Communicator& comm, const TrainOptions& options);

/// The inputs that determine how many micro-batches a step has.
Inputs describe_step(const TrainOptions& options, int num_ranks);

/// Micro-batches per step of the run with these inputs; 0 if unknown.
int64_t micro_batches_per_step(const Inputs& inputs);

/// The gradient_accumulation_steps that keep the rows of each step on this number of ranks. If the option is what it
/// was in `before` and the ranks can share the micro-batches of a step evenly, their share; otherwise the option
/// itself.
int64_t accumulation_for_resume(const Inputs& before, const TrainOptions& options, int num_ranks);
/// For a run that resumes: throws UsageError that names the possible numbers of ranks if this one cannot share the
/// micro-batches of a step evenly.
void check_ranks_share_steps(const Inputs& before, const TrainOptions& options, int num_ranks);

/// Notes the number of steps that the inputs amount to, which is known once the rows are.
void add_num_steps(Inputs& inputs, int64_t num_steps);
/// The number noted; 0 if unknown.
int64_t num_steps_of(const Inputs& inputs);

enum class LengthChange { kNone, kLonger, kOther };
/// How max_steps and num_train_epochs compare with those before. A run that is to be longer continues; one that is to
/// be shorter, or of which that is not known, is another run.
LengthChange compare_length(const Inputs& before, const Inputs& now);

/// The inputs that differ and would change the result, human-readable: "learning_rate: 1e-06, now 5e-07"; "" if there
/// are none. A path does not matter if the contents are the same, nor does the number of ranks;
/// gradient_accumulation_steps matters if it changes the rows of a step.
std::string describe_changes(const Inputs& before, const Inputs& now);

/// The options that differ without changing the result, human-readable; "" if there are none.
std::string describe_allowed_changes(const Inputs& before, const Inputs& now);

/// {name: value}
nlohmann::ordered_json inputs_to_json(const Inputs& inputs);
/// Skips values that are not text. Returns no inputs if `json` is not an object.
Inputs inputs_from_json(const nlohmann::ordered_json& json);

}  // namespace plumb
