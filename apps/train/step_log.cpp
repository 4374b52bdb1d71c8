#include "apps/train/step_log.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

namespace plumb {

StepLog::StepLog(const std::string& directory) : metrics_(directory + "/metrics.jsonl"), report_(directory) {}

StepLog::StepLog(const std::string& directory, int64_t last_step, const nlohmann::ordered_json& state)
    : metrics_(directory + "/metrics.jsonl", last_step),
      report_(directory),
      num_steps_(state.at("num_steps").get<int64_t>()),
      num_tokens_(state.at("num_tokens").get<int64_t>()),
      seconds_(state.at("seconds").get<double>()) {
  // without counts, as written by earlier versions, every step had every metric
  const nlohmann::ordered_json counts = state.value("counts", nlohmann::ordered_json::object());
  for (const auto& [name, sum] : state.at("sums").items())
    sums_.push_back({name, sum.is_number() ? sum.get<double>() : std::nan(""),  // JSON has null instead of NaN
                     counts.value(name, num_steps_)});
}

nlohmann::ordered_json StepLog::state() const {
  nlohmann::ordered_json sums = nlohmann::ordered_json::object();
  nlohmann::ordered_json counts = nlohmann::ordered_json::object();
  for (const Sum& sum : sums_) {
    sums[sum.name] = sum.value;
    if (sum.count != num_steps_) counts[sum.name] = sum.count;
  }
  return {{"num_steps", num_steps_},
          {"num_tokens", num_tokens_},
          {"seconds", seconds_},
          {"sums", sums},
          {"counts", counts}};
}

void StepLog::add(const StepStats& stats, double seconds) {
  ++num_steps_;
  num_tokens_ += stats.num_tokens;
  seconds_ += seconds;
  for (const Metric& metric : stats.metrics) {
    const auto known =
        std::find_if(sums_.begin(), sums_.end(), [&](const Sum& sum) { return sum.name == metric.name; });
    if (known == sums_.end()) {
      sums_.push_back({metric.name, metric.value, 1});
    } else {
      known->value += metric.value;
      ++known->count;
    }
  }
}

void StepLog::write(const StepStats& last, int64_t step, double epoch, int64_t total_tokens, int64_t memory_bytes) {
  const auto count = static_cast<double>(num_steps_);
  nlohmann::ordered_json line = {{"step", step},
                                 {"epoch", epoch},
                                 {"loss", sums_.front().value / count},  // before norm and learning rate
                                 {"grad_norm", last.grad_norm},
                                 {"learning_rate", last.learning_rate},
                                 {"num_tokens", total_tokens}};
  for (const Sum& sum : sums_) line[sum.name] = sum.value / static_cast<double>(sum.count);
  line["step_seconds"] = seconds_ / count;
  line["tokens_per_second"] = static_cast<double>(num_tokens_) / seconds_;
  line["memory_bytes"] = memory_bytes;
  metrics_.write(line);
  num_steps_ = num_tokens_ = 0;
  seconds_ = 0;
  sums_.clear();
  report_.refresh();
}

void StepLog::write_skipped(int64_t step, double epoch, const std::vector<int64_t>& rows, const std::string& reason) {
  metrics_.write({{"step", step}, {"epoch", epoch}, {"skipped_rows", rows}, {"skipped_because", reason}});
}

void StepLog::write_rollback(int64_t step, double epoch, int64_t to_step) {
  metrics_.write({{"step", step}, {"epoch", epoch}, {"rolled_back_to", to_step}});
}

void StepLog::write(const EvaluationStats& stats, int64_t step, double epoch) {
  nlohmann::ordered_json line = {{"step", step}, {"epoch", epoch}};
  for (const Metric& metric : stats.metrics) line["eval_" + metric.name] = metric.value;
  if (line.contains("eval_exact_match")) line["eval_perplexity"] = std::exp(stats.metric("loss"));
  line["eval_num_tokens"] = stats.num_tokens;
  metrics_.write(line);
}

std::string render_metrics(const std::vector<Metric>& metrics) {
  std::string text;
  for (const Metric& metric : metrics)
    text += fmt::format("{}{} {:.4g}", text.empty() ? "" : "  ", metric.name, metric.value);
  return text;
}

}  // namespace plumb
