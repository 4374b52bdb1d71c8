#include "apps/train/policy_steps.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <utility>

#include "apps/models/stage_model.hpp"
#include "io/file/file.hpp"
#include "io/file/json_tolerant.hpp"
#include "lib/base/activity.hpp"
#include "lib/base/check.hpp"
#include "lib/base/clock.hpp"
#include "lib/base/log.hpp"
#include "lib/base/random.hpp"

namespace plumb {

namespace {

// Streams of the seeds of sampling, apart from those of the order of rows.
constexpr uint64_t kTrainingStream = 0x726F6C6C6F757473, kEvaluationStream = 0x6576616C75617465;

uint64_t seed_of(const TrainOptions& o, uint64_t stream, int64_t number) {
  return random_bits(static_cast<uint64_t>(o.seed), stream, static_cast<uint64_t>(number));
}

/// How much of the time since it was made ranks have waited for others.
class WaitClock {
 public:
  /// Collective: the share of all ranks' time.
  double share(const Communicator& comm) const {
    std::array<int64_t, 2> sums = {collective_wait_ns() - wait_ns_, steady_now_ns() - start_ns_};
    comm.sum(sums);
    return static_cast<double>(sums[0]) / static_cast<double>(std::max<int64_t>(1, sums[1]));
  }

 private:
  int64_t wait_ns_ = collective_wait_ns(), start_ns_ = steady_now_ns();
};

double sum_of(std::span<const float> values) {
  double sum = 0;
  for (const float value : values) sum += static_cast<double>(value);
  return sum;
}

}  // namespace

PolicySteps::PolicySteps(const Input& input, int64_t num_steps_done, const nlohmann::ordered_json& saved)
    : in_(input), options_(in_.options.rl) {
  const std::optional<double> coef = get_number(saved, "entropy_coef"), last = get_number(saved, "last_entropy");
  if (coef && last) in_.objective.set_entropy_control({*coef, *last});
  if (!options_.rollouts.empty()) {
    recorded_.emplace(options_.rollouts, in_.config.vocab_size, options_.num_generations);
  } else {
    maker_.emplace(RolloutMaker::Input{in_.comm, options_, in_.options.data, in_.config, in_.options.model.dtype,
                                       model_at_start(in_.options).tokenizer(), in_.data.end_ids,
                                       in_.options.output_dir + "/rewards.log"});
  }
  if (needs_reference()) reference_.emplace(in_.comm, in_.options, in_.model, in_.config, in_.source, in_.adapter);
  if (options_.sync_ref_model && num_steps_done > 0)
    reference_->restore(in_.comm, in_.options.output_dir, num_steps_done);
}

/// The best and the worst completion of the first prompts of the last round.
void PolicySteps::add_samples(StageNotes& notes) const {
  constexpr int64_t kMostSamples = 6;
  if (round_.number == 0 || !maker_) return;
  const std::vector<int64_t> prompts = in_.data.order.prompts_of(round_.number);
  for (int64_t i = 0; i < std::min(kMostSamples, in_.data.layout.prompts_per_round()); ++i) {
    const int64_t first = i * options_.num_generations;
    const auto is_below = [&](int64_t a, int64_t b) { return round_.advantages[a] < round_.advantages[b]; };
    std::vector<int64_t> rows(options_.num_generations);
    for (int64_t row = 0; row < options_.num_generations; ++row) rows[row] = first + row;
    const auto [worst, best] = std::minmax_element(rows.begin(), rows.end(), is_below);
    notes.add_sample({{"prompt", in_.data.prompts.prompts[prompts[i]].text()},
                      {"best completion of round " + std::to_string(round_.number), round_.rollouts[*best].text},
                      {"worst completion", round_.rollouts[*worst].text},
                      {"advantage of the best", round_.advantages[*best]},
                      {"advantage of the worst", round_.advantages[*worst]}});
  }
}

void PolicySteps::save(int64_t step) {
  if (options_.sync_ref_model) reference_->save(in_.comm, in_.options.output_dir, step);
}

nlohmann::ordered_json PolicySteps::state() const {
  const EntropyControl& control = in_.objective.entropy_control();
  if (!options_.policy.uses_adaptive_entropy || !std::isfinite(control.last_entropy)) return {};
  return {{"entropy_coef", control.coef}, {"last_entropy", control.last_entropy}};
}

bool PolicySteps::needs_old_logps() const {
  return in_.data.layout.has_old_policy() || (in_.options.stage == Stage::kRloo && needs_reference());
}

/// Completions are left out where nothing but the policy terms of a completion has a gradient or a part in other
/// gradients, and metrics are known without its ratios.
DocumentForm PolicySteps::document_form() const {
  const PolicyOptions policy = policy_options(in_.options.stage, options_);
  const bool knows_metrics = policy.loss != PolicyLoss::kVespo || !in_.data.layout.has_old_policy();
  return {.shares_prompts = shares_prompts(in_.model.trained()),
          .skips_zero_signal = knows_metrics && !policy.needs_reference() && !policy.has_entropy_bonus() &&
                               !policy.has_entropy_mask() && in_.model.trained().router_loss_coefficient() == 0,
          .keeps_untrained = policy.loss == PolicyLoss::kRloo};
}

std::vector<MicroBatch> PolicySteps::batches_of(int64_t step) {
  const RoundLayout& layout = in_.data.layout;
  const int64_t number = layout.round_of(step);
  if (round_.number != number) {
    if (layout.begins_round(step))
      begin_round(number, step);
    else
      continue_round(number, step);
  }
  const DocumentForm form = document_form();
  std::vector<MicroBatch> batches;
  for (int64_t m = in_.comm.rank(); m < layout.micro_batches_per_step; m += in_.comm.size())
    batches.push_back(micro_batch_of(round_, layout.rows_of(layout.window_of(step), m), m, form));
  return batches;
}

/// Collective: makes a round with the weights as they are now.
void PolicySteps::begin_round(int64_t number, int64_t step) {
  round_ = Round();
  metrics_.clear();
  if (recorded_) {
    take_recorded(number);
  } else {
    Phase phase("generate", step);
    const double start_seconds = steady_seconds();
    const std::vector<int64_t> prompts = in_.data.order.prompts_of(number);
    maker_->use(in_.model);
    const WaitClock clock;
    round_.rollouts = maker_->generate(in_.data.prompts, prompts, options_.num_generations,
                                       seed_of(in_.options, kTrainingStream, number), number);
    metrics_.push_back({"generation_idle", clock.share(in_.comm)});
    const double end_seconds = steady_seconds();
    phase.next("score");
    if (!take_saved_rewards(number)) maker_->score(in_.data.prompts, prompts, round_.rollouts);
    metrics_.push_back({"generation_seconds", end_seconds - start_seconds});
    metrics_.push_back({"reward_seconds", steady_seconds() - end_seconds});
  }
  mark_truncated(round_, in_.data.end_ids, options_.mask_truncated_completions);
  if (in_.options.startup_checks && !is_checked_) check_round(in_.comm, in_.model.trained(), in_.options, round_);
  is_checked_ = true;
  add_logps(step);
  round_.number = number;
  const Phase phase("advantages", step);
  in_.comm.run_on_rank0([&] {
    Round kept = round_;
    if (!in_.data.layout.has_old_policy())  // the run continues before or after the round, not inside
      for (Rollout& rollout : kept.rollouts) rollout.old_logps = rollout.reference_logps = {};
    write_round(in_.options.output_dir, kept);
  });
  finish(step);
  is_logged_ = false;
  const std::vector<std::string> warnings = guard_.add(metrics_);
  if (in_.comm.rank() > 0) return;
  for (const std::string& warning : warnings) log_warning("round {}: {}", number, warning);
}

/// Collective: the rewards of the round's file, where an earlier start made the same completions and a program scored
/// them, which may answer otherwise now. Returns whether there are any.
bool PolicySteps::take_saved_rewards(int64_t number) {
  if (!options_.rewards.has(RewardFunction::kProgram)) return false;
  const std::vector<double> rewards = in_.comm.from_rank0([&]() -> std::vector<double> {
    if (!is_regular_file(round_path(in_.options.output_dir, number))) return {};
    std::vector<double> saved;
    try {
      const std::vector<Rollout> rollouts =
          read_round(in_.options.output_dir, number, in_.config.vocab_size, round_.num_rows());
      for (size_t i = 0; i < rollouts.size(); ++i) {
        if (rollouts[i].completion_ids != round_.rollouts[i].completion_ids) return {};
        saved.insert(saved.end(), rollouts[i].rewards.begin(), rollouts[i].rewards.end());
      }
    } catch (const Error&) {
      return {};  // scored again
    }
    return saved;
  });
  const size_t num_rewards = in_.data.reward_names.size();
  if (rewards.size() != num_rewards * round_.rollouts.size()) return false;
  for (size_t i = 0; i < round_.rollouts.size(); ++i) {
    const auto first = rewards.begin() + static_cast<std::ptrdiff_t>(i * num_rewards);
    round_.rollouts[i].rewards.assign(first, first + static_cast<std::ptrdiff_t>(num_rewards));
  }
  return true;
}

/// Collective: log-probabilities of the round under the policy and the reference, where they are needed.
void PolicySteps::add_logps(int64_t step) {
  const Phase phase("logps", step);
  if (needs_old_logps()) {
    std::vector<std::vector<float>> old =
        round_logps(in_.comm, in_.model.trained(), options_.temperature, in_.data.layout, round_);
    for (size_t row = 0; row < old.size(); ++row) {
      round_.rollouts[row].old_logp = sum_of(old[row]);
      round_.rollouts[row].old_logps = std::move(old[row]);
    }
  }
  if (!needs_reference()) return;
  std::vector<std::vector<float>> of_reference =
      reference_->logps(in_.comm, options_.temperature, in_.data.layout, round_);
  for (size_t row = 0; row < of_reference.size(); ++row) {
    round_.rollouts[row].reference_logp = sum_of(of_reference[row]);
    round_.rollouts[row].reference_logps = std::move(of_reference[row]);
  }
}

/// Local: the advantages of the round; drops log-probabilities that no loss reads.
void PolicySteps::finish(int64_t step) {
  const std::vector<Metric> metrics = finish_round(in_.options, in_.data.reward_names, round_);
  metrics_.insert(metrics_.end(), metrics.begin(), metrics.end());
  for (Rollout& rollout : round_.rollouts) {
    if (!in_.data.layout.has_old_policy()) rollout.old_logps.clear();
    if (in_.options.stage == Stage::kRloo) rollout.reference_logps.clear();
  }
  num_tokens_ = round_.num_tokens();
  first_step_ = step;
}

/// Collective: the recorded round of this number, after those before it.
void PolicySteps::take_recorded(int64_t number) {
  in_.comm.run_agreed([&] {
    for (; num_recorded_ < number; ++num_recorded_) round_.rollouts = recorded_->next();
    check(!round_.rollouts.empty(), "the number of recorded rounds limits the steps");
    for (Rollout& rollout : round_.rollouts) {
      rollout.round = number;
      rollout.old_logp.reset();
      rollout.reference_logp.reset();
      rollout.old_logps.clear();
      rollout.reference_logps.clear();
    }
  });
}

/// Collective: takes up a round whose first steps an earlier start took, from its file.
void PolicySteps::continue_round(int64_t number, int64_t step) {
  round_ = Round();
  metrics_.clear();
  in_.comm.run_agreed([&] {
    round_.rollouts = read_round(in_.options.output_dir, number, in_.config.vocab_size, in_.data.layout.rows_per_round);
    mark_truncated(round_, in_.data.end_ids, options_.mask_truncated_completions);
    for (int64_t row = 0; row < round_.num_rows(); ++row) {
      const Rollout& rollout = round_.rollouts[row];
      const int64_t num_tokens = round_.trained_tokens(row);
      if (std::ssize(rollout.rewards) != std::ssize(in_.data.reward_names) ||
          std::ssize(rollout.old_logps) != num_tokens ||
          (needs_reference() && std::ssize(rollout.reference_logps) != num_tokens))
        throw_error<DataError>(
            "{}: expected {} rewards and the log-probabilities of the {} trained tokens of "
            "completion {}, with which the run continues inside its round, got {} and {}",
            round_path(in_.options.output_dir, number), in_.data.reward_names.size(), num_tokens, row + 1,
            rollout.rewards.size(), rollout.old_logps.size());
    }
  });
  if (recorded_) {
    const Round kept = round_;
    take_recorded(number);
    round_ = kept;
  }
  round_.number = number;
  finish(step);
  is_logged_ = true;
  first_step_ = 0;
}

/// The number of completions that the step did not compute; an entropy of no token is no metric.
void PolicySteps::count_left_out(int64_t step, StepStats& stats) const {
  const DocumentForm form = document_form();
  if (!form.skips_zero_signal) return;
  const RowRange window = in_.data.layout.rows_of_window(in_.data.layout.window_of(step));
  int64_t num_left_out = 0, num_tokens = 0;
  for (int64_t row = window.begin; row < window.end; ++row) {
    const bool is_missing = is_left_out(round_, row, form);
    num_left_out += is_missing ? 1 : 0;
    num_tokens += is_missing ? 0 : round_.trained_tokens(row);
  }
  if (num_tokens == 0) std::erase_if(stats.metrics, [](const Metric& metric) { return metric.name == "entropy"; });
  stats.metrics.push_back({"completions/skipped", static_cast<double>(num_left_out)});
}

void PolicySteps::finish_step(int64_t step, StepStats& stats) {
  stats.num_new_tokens = step == first_step_ ? num_tokens_ : 0;
  count_left_out(step, stats);
  if (!is_logged_ && !stats.is_skipped()) {
    stats.metrics.insert(stats.metrics.end(), metrics_.begin(), metrics_.end());
    is_logged_ = true;
  }
  for (const Metric& metric : stats.metrics)
    if (metric.name == "kl" && options_.max_kl && metric.value > *options_.max_kl)
      stop_reason_ = fmt::format("kl {:.4g} is above --max_kl {:.4g}", metric.value, *options_.max_kl);
  if (options_.policy.uses_adaptive_entropy && !stats.is_skipped())
    in_.objective.set_entropy_control(next_entropy_control(policy_options(in_.options.stage, options_),
                                                           in_.objective.entropy_control(),
                                                           stats.metric("entropy_control/entropy")));
  if (options_.sync_ref_model && step % options_.ref_model_sync_steps == 0)
    reference_->mix(*in_.model.whole, options_.ref_model_mixup_alpha);
}

EvaluationStats PolicySteps::evaluate(int64_t step) {
  check(maker_.has_value(), "prompts to evaluate on are completed");
  const int64_t num_prompts = std::ssize(in_.data.eval_prompts.prompts);
  std::vector<int64_t> prompts(num_prompts);
  for (int64_t i = 0; i < num_prompts; ++i) prompts[i] = i;
  const int64_t num_generations = options_.num_generations_eval.value_or(options_.num_generations);
  Round round;
  Phase phase("generate", step);
  maker_->use(in_.model);
  // the same random numbers each time, so that evaluations differ by their weights alone
  round.rollouts = maker_->generate(in_.data.eval_prompts, prompts, num_generations,
                                    seed_of(in_.options, kEvaluationStream, 0), /*round=*/1);
  phase.next("score");
  maker_->score(in_.data.eval_prompts, prompts, round.rollouts);
  mark_truncated(round, in_.data.end_ids, false);
  return {round.num_rows(), round.num_tokens(), describe_round(options_.reward_weights, in_.data.reward_names, round)};
}

std::vector<std::string> PolicySteps::evaluated_metrics() const {
  std::vector<std::string> names = {"reward", "reward_std"};
  for (const std::string& name : in_.data.reward_names)
    for (const char* part : {"mean", "std"}) names.push_back(fmt::format("rewards/{}/{}", name, part));
  for (const char* name : {"mean_length", "min_length", "max_length", "clipped_ratio"})
    names.push_back(fmt::format("completions/{}", name));
  return names;
}

}  // namespace plumb
