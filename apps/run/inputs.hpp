// What the result of a run is made from: options, and the contents of the files that they name. A run goes on, and a
// stage of a pipeline counts as done, where these are what they were.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "apps/options/train_options.hpp"
#include "partition/communicator.hpp"

namespace plumb {

/// Name and value.
using Inputs = OptionTexts;

/// Collective. The models that earlier stages make must be there.
Inputs describe_inputs(const Communicator& comm, const TrainOptions& options);

/// The part of the inputs that says how many micro-batches a step has.
Inputs describe_step(const TrainOptions& options, int num_ranks);

/// How many micro-batches a step has, of the run that these are the inputs of; 0 where they do not say.
int64_t micro_batches_per_step(const Inputs& inputs);

/// The gradient_accumulation_steps with which steps keep their rows: where the option is what it was in `before`, as
/// many as this number of ranks needs for the micro-batches that a step had, if it can share them; else the option
/// itself.
int64_t accumulation_for_resume(const Inputs& before, const TrainOptions& options, int num_ranks);
/// For a run that is to go on: throws UsageError naming the numbers of ranks that can share the micro-batches of a
/// step, if this one cannot.
void check_ranks_share_steps(const Inputs& before, const TrainOptions& options, int num_ranks);

/// Which inputs matter and differ, for people: "learning_rate: 1e-06, now 5e-07"; "" if none does. Paths do not matter
/// where the contents are the same, nor does the number of ranks; gradient_accumulation_steps does where it changes the
/// rows of a step.
std::string describe_changes(const Inputs& before, const Inputs& now);

/// The options that differ where describe_changes() finds nothing, for people.
std::string describe_allowed_changes(const Inputs& before, const Inputs& now);

/// {name: value}
nlohmann::ordered_json inputs_to_json(const Inputs& inputs);
/// What is not text is left out; none where `json` is no object.
Inputs inputs_from_json(const nlohmann::ordered_json& json);

}  // namespace plumb
