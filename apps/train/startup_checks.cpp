#include "apps/train/startup_checks.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <numeric>

#include "apps/models/model_setup.hpp"
#include "apps/train/trainer.hpp"
#include "io/file/atomic_file.hpp"
#include "io/file/file.hpp"
#include "lib/base/check.hpp"
#include "lib/base/log.hpp"
#include "lib/objective/reward.hpp"

namespace plumb {

namespace {

constexpr int64_t kCandidateRows = 64;
constexpr int64_t kRowsChecked = 4;
constexpr double kMinEosFraction = 0.5;

struct Check {
  std::string name;
  bool is_passed;
  std::string detail;
};

/// The shortest of the first rows, so that the checks take little time. Together they are no longer than a micro-batch
/// of the run may be, but there are at least two.
std::vector<int64_t> short_rows(const Dataset& dataset, int64_t micro_batch_tokens) {
  std::vector<std::pair<int64_t, int64_t>> rows;  // tokens, row
  for (int64_t row = 0; row < std::min(dataset.num_rows(), kCandidateRows); ++row)
    rows.emplace_back(dataset.row(row).num_tokens(), row);
  std::sort(rows.begin(), rows.end());
  std::vector<int64_t> chosen;
  int64_t tokens = 0;
  for (size_t i = 0; i < std::min<size_t>(rows.size(), kRowsChecked); ++i) {
    tokens += rows[i].first;
    if (i >= 2 && tokens > micro_batch_tokens) break;
    chosen.push_back(rows[i].second);
  }
  return chosen;
}

double relative_difference(double a, double b) { return std::abs(a - b) / std::max({std::abs(a), std::abs(b), 1e-3}); }

class StartupChecks {
 public:
  StartupChecks(const Communicator& comm, const StartupCheckOptions& options, TrainableModel& model,
                Objective& objective, const StageRows& rows)
      : comm_(comm), options_(options), model_(model), objective_(objective), rows_(rows) {
    comm.run_agreed([&] {
      row_numbers_ = short_rows(*rows.dataset, options.rows_per_micro_batch * rows.dataset->max_row_tokens());
      for (const int64_t row : row_numbers_) singles_.push_back(rows.micro_batch({row}));
      together_ = rows.micro_batch(row_numbers_);
    });
  }

  std::vector<Check> run() {
    std::vector<Check> checks = {packed_equals_unpacked()};
    if (comm_.size() * options_.accumulation_steps > 1) checks.push_back(loss_does_not_depend_on_accumulation());
    if (options_.starts_at_reference) checks.push_back(dpo_starts_at_zero());
    if (options_.has_score) checks.push_back(reward_does_not_depend_on_padding());
    const double fraction = rows_.dataset->index().statistics.share_ending_in_trained_eos();
    checks.push_back(
        {"texts that end in a trained EOS", fraction >= kMinEosFraction, fmt::format("{:.1f} %", 100 * fraction)});
    return checks;
  }

 private:
  /// Micro-batches of one evaluation, all on rank 0.
  EvaluationStats evaluate(const std::vector<MicroBatch>& batches) {
    const auto start = [&]() -> NextMicroBatches {
      return [&, next = size_t{0}]() mutable -> std::vector<MicroBatch> {
        return {comm_.rank() == 0 ? batches[next++] : MicroBatch::empty()};
      };
    };
    return evaluate_model(model_, comm_, objective_, std::ssize(batches), start);
  }

  Check compare(const std::string& name, const std::vector<std::pair<std::string, std::array<double, 2>>>& values) {
    Check check{name, true, ""};
    for (const auto& [what, pair] : values) {
      const double difference = relative_difference(pair[0], pair[1]);
      check.is_passed = check.is_passed && difference <= options_.tolerance;  // false for NaN too
      check.detail += fmt::format("{}{} {:.7g} and {:.7g}", check.detail.empty() ? "" : ", ", what, pair[0], pair[1]);
    }
    return check;
  }

  Check packed_equals_unpacked() {
    return compare("several texts in one row = each by itself",
                   {{"loss", {evaluate({together_}).metric("loss"), evaluate(singles_).metric("loss")}}});
  }

  /// Loss and gradient norm of the rows: all in one micro-batch of the step, or spread over all of them.
  std::array<double, 2> accumulate(bool is_spread) {
    const int64_t num_micro_batches = comm_.size() * options_.accumulation_steps;
    std::vector<MicroBatch> mine;
    for (int64_t a = 0; a < options_.accumulation_steps; ++a) {
      const int64_t number = a * comm_.size() + comm_.rank();
      std::vector<int64_t> rows;
      for (size_t i = 0; i < row_numbers_.size(); ++i)
        if (number == (is_spread ? static_cast<int64_t>(i) % num_micro_batches : 0)) rows.push_back(row_numbers_[i]);
      mine.push_back(rows_.micro_batch(rows));
      mine.back().number = number;
    }
    const BatchGradient gradient = accumulate_global_batch(model_, comm_, objective_, mine);
    return {objective_.metrics(gradient.sums, false).front().value, gradient.norm};
  }

  Check loss_does_not_depend_on_accumulation() {
    const std::array<double, 2> one = accumulate(false), spread = accumulate(true);
    return compare(fmt::format("one micro-batch = spread over {} ranks x {} steps of accumulation", comm_.size(),
                               options_.accumulation_steps),
                   {{"loss", {one[0], spread[0]}}, {"gradient norm", {one[1], spread[1]}}});
  }

  Check dpo_starts_at_zero() {
    const EvaluationStats stats = evaluate({together_});
    const double largest =
        std::max(std::abs(stats.metric("rewards/chosen")), std::abs(stats.metric("rewards/rejected")));
    return {"DPO starts at its reference: rewards of zero", largest <= 10 * options_.tolerance,
            fmt::format("loss {:.6f}, rewards within {:.1e}", stats.metric("loss"), largest)};
  }

  Check reward_does_not_depend_on_padding() {
    // the first text alone, and with padding after it
    MicroBatch plain = singles_.front();
    const auto end = static_cast<std::ptrdiff_t>(plain.document_begin[1]);
    plain.token_ids.resize(end);
    plain.loss_mask.resize(end);
    plain.document_begin = {0, end};
    plain.row_ids.resize(1);
    plain.prefix_length.clear();
    MicroBatch padded = plain;
    padded.token_ids.insert(padded.token_ids.end(), 7, model_.config().pad_token_id);
    padded.loss_mask.insert(padded.loss_mask.end(), 7, 0);
    padded.document_begin = {0, padded.num_tokens()};
    const auto reward_of = [&](const MicroBatch& batch) {
      const std::vector<int64_t> read_rows = scored_rows(batch, model_.config().pad_token_id);
      ForwardPass pass = model_.forward(batch, read_rows, Pass::evaluation());
      const double reward =
          document_rewards(pass.hidden_TD(), batch, pass.head(), model_.config().output(), model_.config().pad_token_id)
              .front();
      pass.finish();
      return reward;
    };
    return compare("a reward does not depend on padding", {{"reward", {reward_of(plain), reward_of(padded)}}});
  }

  const Communicator& comm_;
  const StartupCheckOptions& options_;
  TrainableModel& model_;
  Objective& objective_;
  const StageRows& rows_;
  std::vector<int64_t> row_numbers_;
  std::vector<MicroBatch> singles_;
  MicroBatch together_;
};

}  // namespace

void run_startup_checks(const Communicator& comm, const StartupCheckOptions& options, TrainableModel& model,
                        Objective& objective, const StageRows& rows) {
  const std::vector<Check> checks = StartupChecks(comm, options, model, objective, rows).run();
  comm.run_on_rank0([&] {
    nlohmann::ordered_json lines = nlohmann::ordered_json::array();
    for (const Check& check : checks) {
      log_info("check: {}: {} ({})", check.name, check.is_passed ? "yes" : "NO", check.detail);
      lines.push_back({{"name", check.name}, {"passed", check.is_passed}, {"detail", check.detail}});
    }
    write_file_atomically(options.output_dir + "/checks.json",
                          nlohmann::ordered_json{{"checks", lines}}.dump(2) + "\n");
  });
  release_freed_memory();  // of micro-batches that only the checks use
  // the last check is about the data, and prepare has already logged a warning for it
  for (size_t i = 0; i + 1 < checks.size(); ++i)
    if (!checks[i].is_passed)
      throw_error<NumericError>("start-up check failed: {}: {}; --startup_checks false trains anyway", checks[i].name,
                                checks[i].detail);
}

}  // namespace plumb
