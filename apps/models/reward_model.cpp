#include "apps/models/reward_model.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <map>

#include "apps/models/adapter_setup.hpp"
#include "apps/models/model_setup.hpp"
#include "lib/base/check.hpp"
#include "lib/objective/reward.hpp"

namespace plumb {

RewardModel::RewardModel(const Communicator& comm, const std::string& directory, at::ScalarType dtype,
                         const std::string& adapter)
    : comm_(comm), directory_(directory) {
  std::optional<HfModel> source;
  ModelConfig config;
  comm.run_agreed([&] {
    source.emplace(directory, HfModelOptions{.head = HeadKind::kScore, .adapter = adapter});
    if (!source->has_score())
      throw_error<UsageError>("{}: expected a reward model, got one without score.weight; plumb reward trains one",
                              directory);
    config = source->config();
    if (config.pad_token_id < 0) config.pad_token_id = padding_id({directory, adapter});
  });
  model_ = load_frozen_model(comm, config, *source, "", dtype);
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
    const std::vector<int64_t> read_rows = scored_rows(batch, config().pad_token_id);
    ForwardPass pass = model_->forward(batch, read_rows, Pass::evaluation());
    if (!batch.is_empty())
      for (const float reward :
           document_rewards(pass.hidden_TD(), batch, pass.head(), config().output(), config().pad_token_id))
        mine.push_back(reward);
    pass.finish();
    for (const std::vector<double>& part : comm_.all_gather(mine))
      rewards.insert(rewards.end(), part.begin(), part.end());
  }
  check(std::ssize(rewards) == num_texts, "every text has its reward");
  for (size_t i = 0; i < rewards.size(); ++i)  // the same numbers on all ranks, so all throw
    if (!std::isfinite(rewards[i]))
      throw_error<NumericError>("{}: expected rewards, got {} for text {}", directory_, rewards[i], i);
  return rewards;
}

nlohmann::ordered_json describe_rewards(const Dataset& pairs, const std::vector<double>& rewards) {
  struct Tally {
    int64_t num_pairs = 0, num_right = 0;
    void add(bool is_right) {
      ++num_pairs;
      num_right += is_right ? 1 : 0;
    }
    nlohmann::ordered_json accuracy() const {
      if (num_pairs == 0) return nullptr;
      return static_cast<double>(num_right) / static_cast<double>(num_pairs);
    }
  };
  Tally all, chosen_longer, chosen_shorter;
  std::map<int, Tally> by_length;  // bin: lengths of [2^bin, 2^(bin + 1))
  double margin = 0, sum_r = 0, sum_l = 0, sum_rr = 0, sum_ll = 0, sum_rl = 0;
  for (int64_t pair = 0; pair < pairs.num_examples(); ++pair) {
    const TokenRows rows = pairs.examples(pair, pair + 1);
    const std::array<int64_t, 2> lengths = {rows.offsets[1] - rows.offsets[0], rows.offsets[2] - rows.offsets[1]};
    const double* reward = rewards.data() + 2 * pair;
    const bool is_right = reward[0] > reward[1];
    all.add(is_right);
    by_length[std::bit_width(static_cast<uint64_t>(std::max(lengths[0], lengths[1]))) - 1].add(is_right);
    if (lengths[0] != lengths[1]) (lengths[0] > lengths[1] ? chosen_longer : chosen_shorter).add(is_right);
    margin += reward[0] - reward[1];
    for (size_t side = 0; side < 2; ++side) {
      const auto length = static_cast<double>(lengths[side]);
      sum_r += reward[side], sum_l += length;
      sum_rr += reward[side] * reward[side], sum_ll += length * length, sum_rl += reward[side] * length;
    }
  }
  const auto n = static_cast<double>(2 * pairs.num_examples());
  const double spread = std::sqrt((n * sum_rr - sum_r * sum_r) * (n * sum_ll - sum_l * sum_l));
  nlohmann::ordered_json buckets = nlohmann::ordered_json::array();
  for (const auto& [bin, tally] : by_length)
    buckets.push_back({{"tokens", fmt::format("{}-{}", int64_t{1} << bin, (int64_t{2} << bin) - 1)},
                       {"pairs", tally.num_pairs},
                       {"accuracy", tally.accuracy()}});
  return {{"accuracy", all.accuracy()},
          {"margin", 2 * margin / n},
          {"mean_reward", sum_r / n},
          {"accuracy_by_length", buckets},
          {"accuracy_chosen_longer", chosen_longer.accuracy()},
          {"accuracy_chosen_shorter", chosen_shorter.accuracy()},
          {"correlation_of_reward_with_length",
           spread > 0 ? nlohmann::ordered_json((n * sum_rl - sum_r * sum_l) / spread) : nlohmann::ordered_json()}};
}

std::vector<double> RewardModel::score(const Dataset& dataset, int64_t rows_per_micro_batch) {
  const int64_t documents = dataset.index().kind == kPairsKind ? 2 : 1;
  return score(dataset.num_examples() * documents, rows_per_micro_batch * documents, [&](int64_t text) {
    const int64_t example = text / documents;
    const TokenRows rows = dataset.examples(example, example + 1);
    const int64_t document = text % documents;
    return std::vector<int32_t>(rows.tokens.begin() + rows.offsets[document],
                                rows.tokens.begin() + rows.offsets[document + 1]);
  });
}

}  // namespace plumb
