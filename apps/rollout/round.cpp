#include "apps/rollout/round.hpp"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <utility>

#include "lib/base/check.hpp"
#include "lib/objective/advantages.hpp"

namespace plumb {

int64_t Round::trained_tokens(int64_t row) const {
  return is_trained[row] ? std::ssize(rollouts[row].completion_ids) : 0;
}

int64_t Round::num_trained_tokens() const {
  int64_t count = 0;
  for (int64_t row = 0; row < num_rows(); ++row) count += trained_tokens(row);
  return count;
}

int64_t Round::num_tokens() const {
  int64_t count = 0;
  for (const Rollout& rollout : rollouts) count += std::ssize(rollout.prompt_ids) + std::ssize(rollout.completion_ids);
  return count;
}

void mark_truncated(Round& round, std::span<const int32_t> end_ids, bool masks_truncated) {
  round.is_trained.clear();
  for (Rollout& rollout : round.rollouts) {
    rollout.is_truncated = std::find(end_ids.begin(), end_ids.end(), rollout.completion_ids.back()) == end_ids.end();
    round.is_trained.push_back(masks_truncated && *rollout.is_truncated ? 0 : 1);
  }
}

bool is_left_out(const Round& round, int64_t row, const DocumentForm& form) {
  if (!form.skips_zero_signal) return false;
  return round.advantages[row] == 0 || (!round.is_trained[row] && !form.keeps_untrained);
}

namespace {

void append_document(const Rollout& rollout, bool is_trained, bool stores_prompt, MicroBatch& batch) {
  if (stores_prompt)
    batch.token_ids.insert(batch.token_ids.end(), rollout.prompt_ids.begin(), rollout.prompt_ids.end());
  batch.loss_mask.resize(batch.token_ids.size(), 0);
  batch.token_ids.insert(batch.token_ids.end(), rollout.completion_ids.begin(), rollout.completion_ids.end());
  batch.loss_mask.resize(batch.token_ids.size(), is_trained ? 1 : 0);
  if (!is_trained) return;
  batch.old_logps.insert(batch.old_logps.end(), rollout.old_logps.begin(), rollout.old_logps.end());
  batch.reference_token_logps.insert(batch.reference_token_logps.end(), rollout.reference_logps.begin(),
                                     rollout.reference_logps.end());
}

}  // namespace

MicroBatch micro_batch_of(const Round& round, RowRange rows, int64_t number, const DocumentForm& form) {
  MicroBatch batch;
  batch.document_begin = {0};
  const std::vector<int32_t>* prompt = nullptr;  // of the document before
  for (int64_t row = rows.begin; row < rows.end; ++row) {
    const Rollout& rollout = round.rollouts[row];
    if (is_left_out(round, row, form)) {
      ++batch.left_out_completions;
      batch.left_out_tokens += round.trained_tokens(row);
      continue;
    }
    const bool is_shared = form.shares_prompts && prompt && rollout.prompt_ids == *prompt;
    prompt = &rollout.prompt_ids;
    append_document(rollout, round.is_trained[row] != 0, !is_shared, batch);
    if (form.shares_prompts) batch.prefix_length.push_back(is_shared ? std::ssize(rollout.prompt_ids) : 0);
    batch.document_begin.push_back(batch.num_tokens());
    batch.row_ids.push_back(rollout.row);
    if (!round.advantages.empty()) batch.advantages.push_back(round.advantages[row]);
  }
  if (batch.num_documents() == 0) {
    MicroBatch empty = MicroBatch::empty();
    empty.left_out_completions = batch.left_out_completions;
    empty.left_out_tokens = batch.left_out_tokens;
    batch = std::move(empty);
  }
  batch.number = number;
  batch.round_completions = round.num_rows();
  batch.round_tokens = round.num_trained_tokens();
  return batch;
}

std::vector<double> divergences(const Round& round) {
  std::vector<double> sums(round.num_rows(), 0.0);
  for (int64_t row = 0; row < round.num_rows(); ++row) {
    const Rollout& rollout = round.rollouts[row];
    for (int64_t i = 0; i < round.trained_tokens(row); ++i)
      sums[row] += static_cast<double>(rollout.old_logps[i]) - static_cast<double>(rollout.reference_logps[i]);
  }
  return sums;
}

namespace {

RewardTable table_of(std::span<const std::string> reward_names, const Round& round) {
  RewardTable table{reward_names.size(), {}};
  for (const Rollout& rollout : round.rollouts) {
    check(rollout.rewards.size() == reward_names.size(), "every completion has all rewards");
    table.values.insert(table.values.end(), rollout.rewards.begin(), rollout.rewards.end());
  }
  return table;
}

void append(std::vector<Metric>& metrics, const std::vector<Metric>& more) {
  for (const Metric& metric : more)
    if (!std::isnan(metric.value)) metrics.push_back(metric);
}

std::vector<Metric> length_metrics(const Round& round) {
  std::vector<int64_t> lengths;
  std::vector<bool> is_truncated;
  for (const Rollout& rollout : round.rollouts) {
    lengths.push_back(std::ssize(rollout.completion_ids));
    is_truncated.push_back(*rollout.is_truncated);
  }
  return completion_metrics(lengths, is_truncated);
}

}  // namespace

std::vector<Metric> finish_round(const TrainOptions& o, std::span<const std::string> reward_names, Round& round) {
  const RewardTable table = table_of(reward_names, round);
  std::vector<Metric> metrics;
  append(metrics, length_metrics(round));
  RoundAdvantages found;
  if (o.stage == Stage::kGrpo) {
    found = grpo_advantages(advantage_options(o.rl), table);
  } else {
    const std::vector<double> kl = o.rl.beta != 0 ? divergences(round) : std::vector<double>();
    found = rloo_advantages(rloo_advantage_options(o.rl), table, kl);
    if (o.rl.beta != 0)
      metrics.push_back({"kl", std::accumulate(kl.begin(), kl.end(), 0.0) /
                                   static_cast<double>(std::max<int64_t>(1, round.num_trained_tokens()))});
  }
  append(metrics, reward_metrics(reward_names, table, found));
  round.advantages = std::move(found.advantages);
  return metrics;
}

std::vector<Metric> describe_round(std::span<const double> reward_weights, std::span<const std::string> reward_names,
                                   const Round& round) {
  const RewardTable table = table_of(reward_names, round);
  RoundAdvantages rewards;
  rewards.rewards = weighted_rewards(table, reward_weights);
  std::vector<Metric> metrics;
  append(metrics, reward_metrics(reward_names, table, rewards));
  std::erase_if(metrics, [](const Metric& metric) { return metric.name == "frac_reward_zero_std"; });
  append(metrics, length_metrics(round));
  return metrics;
}

double pass_at(int64_t k, const Round& round, int64_t num_generations, size_t reward) {
  double sum = 0;
  int64_t num_prompts = 0;
  for (int64_t first = 0; first < round.num_rows(); first += num_generations) {
    int64_t num_passed = 0;
    bool has_reward = false;
    for (int64_t row = first; row < first + num_generations; ++row) {
      const double value = round.rollouts[row].rewards[reward];
      has_reward = has_reward || !std::isnan(value);
      if (value >= 1) ++num_passed;
    }
    if (!has_reward) continue;
    ++num_prompts;
    double all_fail = 1;  // C(n - c, k) / C(n, k), factor by factor
    for (int64_t i = 0; i < k; ++i)
      all_fail *= static_cast<double>(std::max<int64_t>(0, num_generations - num_passed - i)) /
                  static_cast<double>(num_generations - i);
    sum += 1 - all_fail;
  }
  return sum / static_cast<double>(num_prompts);
}

}  // namespace plumb
