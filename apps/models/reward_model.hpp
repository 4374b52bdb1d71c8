// A reward model at work: rewards of texts, on all ranks, whatever the stage or command that asks.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "io/dataset/dataset.hpp"
#include "io/huggingface/hf_model.hpp"
#include "partition/adapted_model.hpp"

namespace plumb {

/// A reward model whose weights are shared among the ranks.
class RewardModel {
 public:
  /// Collective. adapter: a PEFT directory, merged into the weights; "": none. Throws AgreedError: UsageError where
  /// neither has a score.weight.
  RewardModel(const Communicator& comm, const std::string& directory, at::ScalarType dtype,
              const std::string& adapter = {});

  const std::string& directory() const { return directory_; }
  const ModelConfig& config() const { return model_->config(); }

  /// Collective: the rewards of num_texts texts, in order, on every rank. text(i) gives the ids of one, asked for on
  /// one rank only. Which texts are computed together depends on their numbers alone, so the bits do not depend on
  /// ranks.
  std::vector<double> score(int64_t num_texts, int64_t texts_per_micro_batch,
                            const std::function<std::vector<int32_t>(int64_t text)>& text);

  /// Collective: of every document of the dataset's examples, in order: of pairs the chosen and the rejected in turn.
  std::vector<double> score(const Dataset& dataset, int64_t rows_per_micro_batch);

 private:
  const Communicator& comm_;
  std::string directory_;
  std::unique_ptr<AdaptedModel> model_;  // without any adapter of its own
};

/// What rewards say of pairs: accuracy overall, by the length of the longer text, and where the chosen text is the
/// longer or the shorter one; the correlation of reward with length. rewards: as RewardModel::score() gives them.
nlohmann::ordered_json describe_rewards(const Dataset& pairs, const std::vector<double>& rewards);

}  // namespace plumb
