// A prompt that the texts of a pair or a group share gives the loss, metrics and gradients of complete texts.
#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include "lib/base/random.hpp"
#include "lib/objective/dpo.hpp"
#include "lib/objective/grpo.hpp"
#include "lib/objective/reward.hpp"
#include "partition/sharded_model.hpp"
#include "tests/support/tiny_config.hpp"

namespace plumb {
namespace {

struct Pair {
  std::vector<int64_t> prompt, chosen, rejected;
};

/// The pairs include an empty prompt, a prompt of one token, an answer of one token, and answers with a common prefix.
std::vector<Pair> make_pairs(int64_t vocab) {
  uint64_t counter = 0;
  const auto tokens = [&](int64_t count) {
    std::vector<int64_t> ids;
    for (int64_t i = 0; i < count; ++i)
      ids.push_back(static_cast<int64_t>(random_bits(3, 0, counter++) % static_cast<uint64_t>(vocab)));
    return ids;
  };
  std::vector<Pair> pairs;
  for (const auto& [prompt, chosen, rejected] :
       std::vector<std::array<int64_t, 3>>{{7, 5, 9}, {0, 4, 6}, {1, 3, 1}, {12, 1, 5}, {9, 9, 9}})
    pairs.push_back({tokens(prompt), tokens(chosen), tokens(rejected)});
  pairs.back().rejected[0] = pairs.back().chosen[0];
  return pairs;
}

MicroBatch make_batch(const std::vector<Pair>& pairs, bool shares_prompts) {
  MicroBatch batch;
  batch.document_begin = {0};
  for (size_t i = 0; i < pairs.size(); ++i) {
    const auto add = [&](const std::vector<int64_t>& ids, uint8_t mask) {
      batch.token_ids.insert(batch.token_ids.end(), ids.begin(), ids.end());
      batch.loss_mask.insert(batch.loss_mask.end(), ids.size(), mask);
    };
    for (const bool is_chosen : {true, false}) {
      const bool borrows = shares_prompts && !is_chosen;
      if (!borrows) add(pairs[i].prompt, 0);
      add(is_chosen ? pairs[i].chosen : pairs[i].rejected, 1);
      batch.document_begin.push_back(batch.num_tokens());
      batch.row_ids.push_back(static_cast<int64_t>(i));
      batch.reference_logps.push_back({-3.0 - static_cast<double>(i), is_chosen ? -1.0 : -2.5});
      if (shares_prompts) batch.prefix_length.push_back(borrows ? std::ssize(pairs[i].prompt) : 0);
    }
    batch.margins.push_back(0.1 * static_cast<double>(i));
  }
  return batch;
}

/// Groups of up to five completions. Of the second prompt the first completion has no trained token, and two begin
/// alike. Those of the third and the first of the fifth have no signal.
MicroBatch make_groups(const std::vector<Pair>& pairs, bool shares_prompts, bool leaves_out = false) {
  MicroBatch batch;
  batch.document_begin = {0};
  for (size_t i = 0; i < pairs.size(); ++i) {
    const auto add = [&](const std::vector<int64_t>& ids, uint8_t mask) {
      batch.token_ids.insert(batch.token_ids.end(), ids.begin(), ids.end());
      batch.loss_mask.insert(batch.loss_mask.end(), ids.size(), mask);
    };
    bool is_stored = false;
    for (size_t k = 0; k <= i; ++k) {
      const std::vector<int64_t>& prompt = pairs[i].prompt;
      const std::vector<int64_t>& completion = k % 2 == 0 ? pairs[(i + k) % pairs.size()].chosen : pairs[i].rejected;
      const double advantage = i == 2 || (i == 4 && k == 0) ? 0.0 : static_cast<double>(k) - 0.7;
      const bool is_trained = i != 3 || k != 0;
      if (leaves_out && (advantage == 0 || !is_trained)) {
        ++batch.left_out_completions;
        batch.left_out_tokens += is_trained ? std::ssize(completion) - (prompt.empty() ? 1 : 0) : 0;
        continue;
      }
      const bool borrows = shares_prompts && is_stored;
      is_stored = true;
      if (!borrows) add(prompt, 0);
      add(completion, is_trained ? 1 : 0);
      batch.document_begin.push_back(batch.num_tokens());
      batch.row_ids.push_back(static_cast<int64_t>(i));
      batch.advantages.push_back(advantage);
      if (shares_prompts) batch.prefix_length.push_back(borrows ? std::ssize(prompt) : 0);
    }
  }
  batch.round_completions = batch.num_documents() + batch.left_out_completions;
  batch.round_tokens = 50;
  return batch;
}

struct Outcome {
  std::vector<Metric> metrics;
  int64_t num_tokens;
  double norm;
  std::vector<float> gradients;
};

Outcome train(const Communicator& comm, const ModelConfig& config, at::ScalarType dtype, Objective& objective,
              const MicroBatch& batch) {
  ShardedModel model(config, comm, {.dtype = dtype});
  model.load([&](int unit, ElementRange range, std::span<float> out) {
    for (const Parameter& p : model.units()[unit].unit().parameters)
      for (int64_t i = std::max(range.begin, p.offset); i < std::min(range.end, p.offset + p.num_elements()); ++i) {
        const double value = random_normal(9, static_cast<uint64_t>(unit), static_cast<uint64_t>(i)) * 0.2;
        out[i - range.begin] = static_cast<float>(p.shape.size() > 1 ? value : 1.0 + value);
      }
  });
  ObjectiveSums sums = objective.empty_sums();
  ForwardPass pass = model.forward(batch, objective.read_rows(batch), Pass::training(0));
  pass.backward(
      objective.apply(pass.hidden_TD(), batch, pass.head(), pass.head_gradients(), objective.weigh(batch), sums));
  Outcome outcome{objective.metrics(sums, false), sums.num_tokens, model.gradient_norm(), {}};
  for (int unit = 0; unit < static_cast<int>(model.units().size()); ++unit) {
    const auto shard = model.gradient_shard(unit);
    outcome.gradients.insert(outcome.gradients.end(), shard.begin(), shard.end());
  }
  return outcome;
}

void expect_same(const Outcome& shared, const Outcome& whole, double tolerance) {
  EXPECT_EQ(shared.num_tokens, whole.num_tokens);
  EXPECT_NEAR(shared.norm, whole.norm, tolerance * whole.norm);
  for (size_t i = 0; i < whole.metrics.size(); ++i)
    EXPECT_NEAR(shared.metrics[i].value, whole.metrics[i].value,
                tolerance * std::max(1.0, std::abs(whole.metrics[i].value)))
        << whole.metrics[i].name;
  ASSERT_EQ(shared.gradients.size(), whole.gradients.size());
  double squares = 0;
  for (size_t i = 0; i < whole.gradients.size(); ++i) {
    const double difference = static_cast<double>(shared.gradients[i]) - static_cast<double>(whole.gradients[i]);
    squares += difference * difference;
  }
  EXPECT_LE(std::sqrt(squares), tolerance * whole.norm);
}

struct Case {
  const char* name;
  HeadKind head;
  bool has_qk_norm;
  int64_t sliding_window;
  at::ScalarType dtype;
  double tolerance;
};

class SharedPrompt : public testing::TestWithParam<Case> {};

TEST_P(SharedPrompt, GivesTheNumbersOfWholeTexts) {
  at::set_num_threads(1);
  const Communicator comm(0, MPI_COMM_SELF);
  const Case& given = GetParam();
  ModelConfig config = test::tiny_config(false);
  config.head = given.head;
  if (given.has_qk_norm) config.qk_norm = QkNorm::kHead;
  std::fill(config.sliding_window.begin(), config.sliding_window.end(), given.sliding_window);
  const std::vector<Pair> pairs = make_pairs(config.vocab_size);
  const auto outcome_of = [&](bool shares_prompts) {
    const MicroBatch batch = make_batch(pairs, shares_prompts);
    if (given.head == HeadKind::kScore) {
      RewardObjective objective(config.output(), 0.01, std::nullopt);
      return train(comm, config, given.dtype, objective, batch);
    }
    DpoOptions options;
    options.ld_alpha = 0.5;
    options.losses = {{PreferenceLoss::kSigmoid, 1.0}, {PreferenceLoss::kSft, 0.3}};
    DpoObjective objective(options, config.output());
    return train(comm, config, given.dtype, objective, batch);
  };
  const Outcome whole = outcome_of(false), shared = outcome_of(true);
  EXPECT_LT(make_batch(pairs, true).num_tokens(), make_batch(pairs, false).num_tokens());
  expect_same(shared, whole, given.tolerance);
}

TEST(SharedPromptOfAGroup, GivesTheNumbersOfWholeTexts) {
  at::set_num_threads(1);
  const Communicator comm(0, MPI_COMM_SELF);
  for (const int64_t window : {0, 4}) {
    ModelConfig config = test::tiny_config(false);
    std::fill(config.sliding_window.begin(), config.sliding_window.end(), window);
    const std::vector<Pair> pairs = make_pairs(config.vocab_size);
    GrpoObjective objective(PolicyOptions{}, config.output());
    const MicroBatch whole = make_groups(pairs, false), shared = make_groups(pairs, true);
    EXPECT_LT(shared.num_tokens(), whole.num_tokens());
    expect_same(train(comm, config, at::kFloat, objective, shared), train(comm, config, at::kFloat, objective, whole),
                1e-5);
  }
}

/// Gradient and metrics are those of all completions, but for the entropy, which is of fewer tokens.
TEST(ACompletionWithoutASignal, MayBeLeftOut) {
  at::set_num_threads(1);
  const Communicator comm(0, MPI_COMM_SELF);
  const ModelConfig config = test::tiny_config(false);
  const std::vector<Pair> pairs = make_pairs(config.vocab_size);
  for (const auto& [name, loss] : kNames<PolicyLoss>)
    for (const bool has_old_policy : {false, true}) {
      if (loss == PolicyLoss::kVespo && has_old_policy) continue;
      PolicyOptions options;
      options.loss = loss;
      if (loss == PolicyLoss::kLuspo || loss == PolicyLoss::kRloo)
        options.importance_level = ImportanceLevel::kSequence;
      GrpoObjective objective(options, config.output());
      MicroBatch all = make_groups(pairs, true), kept = make_groups(pairs, true, /*leaves_out=*/true);
      EXPECT_EQ(all.num_documents(), kept.num_documents() + kept.left_out_completions);
      EXPECT_EQ(find_targets(all).labels.size(), find_targets(kept).labels.size() + kept.left_out_tokens);
      if (has_old_policy)
        for (MicroBatch* batch : {&all, &kept}) batch->old_logps.assign(find_targets(*batch).labels.size(), -2.5f);
      Outcome of_all = train(comm, config, at::kFloat, objective, all);
      Outcome of_kept = train(comm, config, at::kFloat, objective, kept);
      EXPECT_GT(of_all.num_tokens, of_kept.num_tokens);
      of_kept.num_tokens = of_all.num_tokens;
      for (Outcome* outcome : {&of_all, &of_kept})
        std::erase_if(outcome->metrics, [](const Metric& metric) { return metric.name == "entropy"; });
      SCOPED_TRACE(name);
      expect_same(of_kept, of_all, 1e-5);
    }
}

/// So that completions without a signal need not be computed.
TEST(AGroupWithoutAdvantage, HasAGradientOfExactlyZero) {
  at::set_num_threads(1);
  const Communicator comm(0, MPI_COMM_SELF);
  const ModelConfig config = test::tiny_config(false);
  MicroBatch batch = make_groups(make_pairs(config.vocab_size), true);
  std::fill(batch.advantages.begin(), batch.advantages.end(), 0.0);
  for (const auto& [name, loss] : kNames<PolicyLoss>) {
    PolicyOptions options;
    options.loss = loss;
    GrpoObjective objective(options, config.output());
    const Outcome outcome = train(comm, config, at::kFloat, objective, batch);
    EXPECT_EQ(outcome.norm, 0) << name;
    EXPECT_EQ(outcome.metrics[0].value, 0) << name;
  }
}

INSTANTIATE_TEST_SUITE_P(All, SharedPrompt,
                         testing::Values(Case{"reward", HeadKind::kScore, false, 0, at::kFloat, 1e-5},
                                         Case{"dpo", HeadKind::kLanguageModel, false, 0, at::kFloat, 1e-5},
                                         Case{"dpo_qk_norm", HeadKind::kLanguageModel, true, 0, at::kFloat, 1e-5},
                                         Case{"dpo_sliding_window", HeadKind::kLanguageModel, false, 4, at::kFloat,
                                              1e-5},
                                         Case{"dpo_bfloat16", HeadKind::kLanguageModel, false, 0, at::kBFloat16, 5e-2},
                                         Case{"reward_bfloat16", HeadKind::kScore, false, 0, at::kBFloat16, 5e-2}),
                         [](const auto& one) { return std::string(one.param.name); });

}  // namespace
}  // namespace plumb
