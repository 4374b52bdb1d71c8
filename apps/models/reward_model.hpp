// A reward model for inference: rewards of texts, computed by all ranks.
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
  /// Collective. adapter: a PEFT directory, merged into the weights; "": none. Throws AgreedError (usage) if neither
  /// has a score.weight.
  RewardModel(const Communicator& comm, const std::string& directory, at::ScalarType dtype,
              const std::string& adapter = {});

  const std::string& directory() const { return directory_; }
  const ModelConfig& config() const { return model_->config(); }

  /// Collective: the rewards of num_texts texts, in order, on every rank. text(i) returns the token ids of text i and
  /// is called on one rank only. Rewards do not depend on the number of ranks.
  std::vector<double> score(int64_t num_texts, int64_t texts_per_micro_batch,
                            const std::function<std::vector<int32_t>(int64_t text)>& text);

  /// Collective: the reward of every document of the dataset, in order; for pairs, chosen and rejected alternate.
  std::vector<double> score(const Dataset& dataset, int64_t rows_per_micro_batch);

 private:
  const Communicator& comm_;
  std::string directory_;
  std::unique_ptr<AdaptedModel> model_;  // frozen, without an adapter
};

/// Statistics of the rewards of pairs: accuracy overall, by the length of the longer text, and by whether the chosen
/// text is the longer one; the correlation of reward with length. rewards: as RewardModel::score() returns them.
nlohmann::ordered_json describe_rewards(const Dataset& pairs, const std::vector<double>& rewards);

}  // namespace plumb
