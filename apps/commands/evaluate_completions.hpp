// The part of `plumb evaluate` that lets a model complete prompts and measures the completions by rewards.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "apps/options/options.hpp"
#include "apps/options/rollout_options.hpp"
#include "partition/communicator.hpp"

namespace plumb {

struct CompletionOptions {
  RolloutStageOptions rl;
  int64_t seed = 42;
};
std::vector<BoundOption> bind_options(CompletionOptions& options);
bool measures_completions(const CompletionOptions& options);

/// Throws UsageError for options that have no meaning beside the others. settings: as they were given.
void validate(const CompletionOptions& options, const Settings& settings);

/// Collective: mean rewards of completions of the rows by a language model, and the chance that one of k is right. The
/// same on any number of ranks. Throws AgreedError.
nlohmann::ordered_json evaluate_completions(const Communicator& comm, const CompletionOptions& options,
                                            const ModelOptions& model, const std::string& adapter,
                                            const DataOptions& data);

}  // namespace plumb
