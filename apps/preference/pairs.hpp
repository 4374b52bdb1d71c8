// The pairs that DPO trains on: those of the data, those that a reward model agrees with, or pairs sampled from the
// model itself.
#pragma once

#include <cstdint>
#include <string>

#include "apps/models/model_setup.hpp"
#include "apps/options/train_options.hpp"
#include "io/run/notes.hpp"
#include "partition/communicator.hpp"

namespace plumb {

/// The sources of pairs and the directory for the files.
struct PairSetting {
  ModelSource start;  // the model that training starts from: it samples
  Precision dtype;    // of it and of the reward model
  DataOptions data;
  DpoStageOptions dpo;
  int64_t seed;
  std::string directory;  // of pairs that are made
};

/// Collective: the data to train on: setting.data without a reward model, otherwise files in setting.directory or
/// setting.data. The reward model is no longer in memory when this returns. Throws AgreedError, with the code of
/// DataError if a filter leaves no pair.
DataOptions choose_pairs(const Communicator& comm, const PairSetting& setting, StageNotes& notes);

/// Collective: for each prompt of the data, the completion with the highest and the one with the lowest reward of
/// num_generations.
DataOptions sample_pairs(const Communicator& comm, const PairSetting& setting, StageNotes& notes);

}  // namespace plumb
