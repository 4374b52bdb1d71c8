#include "apps/scoring.hpp"

#include "apps/model_setup.hpp"
#include "io/tokenizer_files.hpp"
#include "lib/base/check.hpp"
#include "lib/objective/reward.hpp"

namespace plumb {

RewardModel::RewardModel(const Communicator& comm, const std::string& directory, at::ScalarType dtype)
    : comm_(comm), directory_(directory) {
  std::optional<HfModel> source;
  ModelConfig config;
  comm.run_agreed([&] {
    source.emplace(directory, HfModelOptions{.head = HeadKind::kScore});
    if (!source->has_score())
      throw_error<UsageError>("{}: expected a reward model, got one without score.weight; plumb reward trains one",
                              directory);
    config = source->config();
    if (config.pad_token_id < 0) config.pad_token_id = padding_id(load_tokenizer(directory));
  });
  model_ = std::make_unique<ShardedModel>(config, comm, EngineOptions{.dtype = dtype});
  load_weights(comm, *model_, *source);
}

std::vector<double> RewardModel::score(int64_t num_texts, int64_t texts_per_micro_batch,
                                       const std::function<std::vector<int32_t>(int64_t)>& text) {
  std::vector<double> rewards;
  const int64_t texts_per_round = comm_.size() * texts_per_micro_batch;
  for (int64_t first = 0; first < num_texts; first += texts_per_round) {
    MicroBatch batch;
    batch.document_begin = {0};
    comm_.run_agreed([&] {
      const int64_t begin = first + comm_.rank() * texts_per_micro_batch;
      for (int64_t i = begin; i < std::min(num_texts, begin + texts_per_micro_batch); ++i) {
        const std::vector<int32_t> ids = text(i);
        check(!ids.empty(), "a text to score has tokens");
        batch.token_ids.insert(batch.token_ids.end(), ids.begin(), ids.end());
        batch.document_begin.push_back(batch.num_tokens());
        batch.row_ids.push_back(i);
      }
      batch.loss_mask.resize(batch.token_ids.size());
      if (batch.row_ids.empty()) batch = MicroBatch::empty();
    });
    std::vector<double> mine;
    model_->evaluate(batch, [&](const at::Tensor& hidden_TD, const HeadTensors& parameters, const HeadTensors*) {
      if (!batch.is_empty())
        for (const float reward :
             document_rewards(hidden_TD, batch, parameters, config().rms_norm_eps, config().pad_token_id))
          mine.push_back(reward);
      return at::Tensor();
    });
    for (const std::vector<double>& part : comm_.all_gather(mine))
      rewards.insert(rewards.end(), part.begin(), part.end());
  }
  check(std::ssize(rewards) == num_texts, "every text has its reward");
  return rewards;
}

}  // namespace plumb
