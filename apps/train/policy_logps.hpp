// Log-probabilities of the completions of a round under a model as it is, forward only: of the policy before the
// round's first step, and of the reference model.
// The reference is the model that training starts from: the base under a new adapter, or a frozen copy.
#pragma once

#include <memory>
#include <vector>

#include "apps/models/adapter_setup.hpp"
#include "apps/models/trained_model.hpp"
#include "apps/options/train_options.hpp"
#include "apps/rollout/round.hpp"
#include "lib/model/model_config.hpp"
#include "partition/adapted_model.hpp"
#include "partition/sharded_model.hpp"

namespace plumb {

/// Whether micro-batches of this model compute a prompt once for all its completions. Not where rotations depend on the
/// length of a text, and not where the routers' loss counts the prompt for each of them.
bool shares_prompts(const TrainableModel& model);

/// Collective: the log-probabilities of the trained tokens of each completion at this temperature, on every rank. The
/// micro-batches are those of the steps, so that a step whose weights are these computes the same bits.
std::vector<std::vector<float>> round_logps(const Communicator& comm, TrainableModel& model, double temperature,
                                            const RoundLayout& layout, const Round& round);

/// Collective: a start-up check on the first completions of a round: several in one micro-batch have the
/// log-probabilities of each by itself. Logs it and writes checks.json. Throws AgreedError if they differ.
void check_round(const Communicator& comm, TrainableModel& model, const TrainOptions& options, const Round& round);

/// The model that the KL divergence is measured from.
class ReferencePolicy {
 public:
  /// Collective: trained: which must outlive this object; a new adapter on its base makes a model of its own needless.
  /// source: the model that training starts from. adapter: of the trained model; nullptr: it is trained as a whole.
  ReferencePolicy(const Communicator& comm, const TrainOptions& options, const TrainedModel& trained,
                  const ModelConfig& config, const HfModel& source, const AdapterStart* adapter);

  /// Collective: as round_logps().
  std::vector<std::vector<float>> logps(const Communicator& comm, double temperature, const RoundLayout& layout,
                                        const Round& round);

  /// Local: reference = share * trained + (1 - share) * reference. Only where the whole model is trained.
  void mix(const ShardedModel& trained, double share);
  /// Collective: saves the reference after this step beside the checkpoints of a run, and removes those of steps that
  /// have none. Throws AgreedError.
  void save(const Communicator& comm, const std::string& output_dir, int64_t step);
  /// Collective: restores the reference after this step. Throws AgreedError.
  void restore(const Communicator& comm, const std::string& output_dir, int64_t step);

 private:
  std::vector<TrainedShard> shards(std::vector<AdamWState>& no_moments);

  std::unique_ptr<ShardedModel> whole_;
  std::unique_ptr<AdaptedModel> frozen_;
  AdaptedModel* base_ = nullptr;  // the trained model, whose base is the reference
};

}  // namespace plumb
