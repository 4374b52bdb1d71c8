#include "io/report/stage.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numbers>
#include <set>

#include "io/report/svg_plot.hpp"
#include "io/report/text.hpp"
#include "lib/base/text_format.hpp"

namespace plumb {
namespace {

constexpr size_t kMaxOtherPlots = 12;
constexpr double kRatioForLogarithm = 30;

/// The metrics of one plot; evaluations of these metrics are drawn with them.
struct PlotRecipe {
  std::string title;
  std::vector<std::pair<std::string, std::string>> metrics;  // key, name in the legend
  bool is_share = false;
};

std::vector<PlotRecipe> main_plots(const std::string& stage) {
  std::vector<PlotRecipe> recipes = {{"Loss", {{"loss", "training"}}}};
  if (stage == "sft") {
    recipes.push_back({"Token accuracy", {{"mean_token_accuracy", "training"}}, true});
    recipes.push_back({"Exact match", {{"exact_match", "training"}}, true});
    recipes.push_back({"Entropy", {{"entropy", "training"}}});
  } else if (stage == "reward") {
    recipes.push_back({"Accuracy: chosen above rejected", {{"accuracy", "training"}}, true});
    recipes.push_back({"Margin: chosen minus rejected", {{"margin", "training"}}});
    recipes.push_back({"Rewards", {{"min_reward", "lowest"}, {"mean_reward", "mean"}, {"max_reward", "highest"}}});
  } else if (stage == "dpo") {
    recipes.push_back({"Implicit rewards", {{"rewards/chosen", "chosen"}, {"rewards/rejected", "rejected"}}});
    recipes.push_back({"Margin: chosen minus rejected", {{"rewards/margins", "training"}}});
    recipes.push_back({"Accuracy: chosen above rejected", {{"rewards/accuracies", "training"}}, true});
    recipes.push_back(
        {"Log-probabilities of completions", {{"logps/chosen", "chosen"}, {"logps/rejected", "rejected"}}});
    recipes.push_back({"Token accuracy", {{"mean_token_accuracy", "training"}}, true});
  } else if (stage == "grpo" || stage == "rloo") {
    recipes.insert(recipes.begin(), {"Reward", {{"reward", "training"}}});
    recipes.push_back({"KL divergence from the reference", {{"kl", "training"}}});
    recipes.push_back({"Entropy", {{"entropy", "training"}}});
    recipes.push_back({"Tokens of completions",
                       {{"completions/mean_length", "all"}, {"completions/mean_terminated_length", "with an end"}}});
    recipes.push_back({"Completions without an end", {{"completions/clipped_ratio", "training"}}, true});
    recipes.push_back({"Groups without a difference in rewards", {{"frac_reward_zero_std", "training"}}, true});
  }
  return recipes;
}

bool has_finite(const std::vector<PlotPoint>& points) {
  return std::any_of(points.begin(), points.end(), [](const PlotPoint& point) { return std::isfinite(point.y); });
}

double last_finite(const std::vector<PlotPoint>& points) {
  const auto found =
      std::find_if(points.rbegin(), points.rend(), [](const PlotPoint& point) { return std::isfinite(point.y); });
  return found == points.rend() ? std::numeric_limits<double>::quiet_NaN() : found->y;
}

double highest(const std::vector<PlotPoint>& points) {
  double value = 0;
  for (const PlotPoint& point : points)
    if (std::isfinite(point.y)) value = std::max(value, point.y);
  return value;
}

double median(const std::vector<PlotPoint>& points) {
  std::vector<double> values;
  for (const PlotPoint& point : points)
    if (std::isfinite(point.y)) values.push_back(point.y);
  if (values.empty()) return std::numeric_limits<double>::quiet_NaN();
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

LinePlot plot_of(const StageSummary& stage, const PlotRecipe& recipe, std::set<std::string>& shown) {
  LinePlot plot;
  plot.title = recipe.title;
  plot.is_share = recipe.is_share;
  if (stage.status != "done" && stage.num_steps > 0) plot.x_end = static_cast<double>(stage.num_steps);
  for (const auto& [key, name] : recipe.metrics) {
    shown.insert(key);
    if (has_finite(stage.metric(key))) plot.series.push_back({name, stage.metric(key), false, {}});
  }
  const size_t num_training = plot.series.size();
  for (size_t i = 0; i < recipe.metrics.size(); ++i) {
    const std::string key = "eval_" + recipe.metrics[i].first;
    shown.insert(key);
    if (!has_finite(stage.metric(key))) continue;
    // with several curves, each evaluation has the color of its curve
    const bool is_companion = recipe.metrics.size() > 1 && num_training == recipe.metrics.size();
    plot.series.push_back({is_companion ? "held out" : "evaluation", stage.metric(key), true,
                           is_companion ? std::optional(i) : std::nullopt});
  }
  return plot;
}

bool spans_orders_of_magnitude(const std::vector<PlotPoint>& points) {
  const double high = highest(points);
  double low = high;
  for (const PlotPoint& point : points)
    if (std::isfinite(point.y)) low = std::min(low, point.y);
  return low > 0 && high / low > kRatioForLogarithm;
}

std::string render_main_plots(const StageSummary& stage, std::set<std::string>& shown) {
  std::string plots;
  for (const PlotRecipe& recipe : main_plots(stage.name)) {
    LinePlot plot = plot_of(stage, recipe, shown);
    const std::string loss_type = stage.option("loss_type");
    const bool is_logistic = stage.name == "reward" || (stage.name == "dpo" && loss_type == "sigmoid");
    if (recipe.title == "Loss" && is_logistic) {
      plot.reference = std::numbers::ln2;
      plot.reference_name = "ln 2: no preference";
    }
    plots += render_line_plot(plot);
  }
  return plots.empty() ? "" : "<div class=\"plots\">" + plots + "</div>\n";
}

std::string render_memory_plot(const StageSummary& stage) {
  std::set<std::string> shown;
  LinePlot plot = plot_of(stage, {"Memory of all ranks, plan against measured", {{"memory_bytes", "measured"}}}, shown);
  const auto planned = stage.plan.find("total_bytes");
  const double most =
      std::max(highest(stage.metric("memory_bytes")), planned == stage.plan.end() ? 0.0 : planned->second);
  const bool is_large = most >= double{1 << 30};
  const double unit = is_large ? 1 << 30 : 1 << 20;
  plot.unit = is_large ? "GiB" : "MiB";
  plot.is_noisy = false;
  for (PlotSeries& series : plot.series)
    for (PlotPoint& point : series.points) point.y /= unit;
  if (planned != stage.plan.end()) {
    plot.reference = planned->second / unit;
    plot.reference_name = "plan";
  }
  plot.size = PlotSize::kHalfLow;
  return render_line_plot(plot);
}

std::string render_speed_plot(const StageSummary& stage) {
  std::set<std::string> shown;
  LinePlot plot = plot_of(stage, {"Speed", {{"tokens_per_second", "training"}}}, shown);
  plot.unit = "tokens per second";
  plot.size = PlotSize::kHalfLow;
  return render_line_plot(plot);
}

std::string render_small_plots(const StageSummary& stage, std::set<std::string>& shown) {
  std::vector<LinePlot> plots;
  plots.push_back(plot_of(stage, {"Learning rate", {{"learning_rate", "training"}}}, shown));
  plots.back().is_noisy = false;
  plots.push_back(plot_of(stage, {"Gradient norm", {{"grad_norm", "before clipping"}}}, shown));
  plots.back().has_log_y = spans_orders_of_magnitude(stage.metric("grad_norm"));
  if (!shown.contains("entropy")) plots.push_back(plot_of(stage, {"Entropy", {{"entropy", "training"}}}, shown));
  // metrics without a recipe, such as those of later versions, are plotted too
  for (const char* known : {"epoch", "memory_bytes", "tokens_per_second", "num_tokens", "eval_num_tokens",
                            "step_seconds", "eval_perplexity"})
    shown.insert(known);
  size_t num_others = 0;
  for (const auto& [key, points] : stage.metrics) {
    if (shown.contains(key) || ++num_others > kMaxOtherPlots) continue;
    const bool is_evaluation = key.starts_with("eval_");
    if (is_evaluation && stage.metrics.contains(key.substr(5))) continue;
    std::set<std::string> ignored;
    plots.push_back(plot_of(stage, {readable_name(key), {{key, "training"}}}, ignored));
    if (is_evaluation)
      for (PlotSeries& series : plots.back().series) series.has_markers = true;
  }
  std::erase_if(plots, [](const LinePlot& plot) { return plot.series.empty(); });
  // two or three plots per row, whichever fills the rows
  const bool are_thirds = plots.size() % 3 == 0 || plots.size() % 2 != 0;
  std::string out;
  for (LinePlot& plot : plots) {
    plot.size = are_thirds ? PlotSize::kThird : PlotSize::kHalfLow;
    out += render_line_plot(plot);
  }
  return out.empty() ? "" : fmt::format("<div class=\"plots{}\">{}</div>\n", are_thirds ? " small" : "", out);
}

std::string bytes_text(double bytes) {
  return std::abs(bytes) < 1e18 ? render_bytes(static_cast<int64_t>(bytes)) : render_number(bytes);
}

std::string render_memory_table(const StageSummary& stage) {
  constexpr std::pair<const char*, const char*> kParts[] = {
      {"program_bytes", "Program, per rank"},
      {"parameter_bytes", "Parameters"},
      {"moment_bytes", "Moments"},
      {"gradient_bytes", "Gradients"},
      {"gradient_buffer_bytes", "Gradient buffers"},
      {"activation_bytes", "Activations"},
      {"head_bytes", "Logits"},
      {"exchange_bytes", "Sums between nodes"},
      {"rank_bytes", "Sum per rank"},
      {"slot_bytes_per_node", "Gathered weights, per node"},
  };
  const auto planned_bytes = [&](const char* key) {
    const auto found = stage.plan.find(key);
    return found == stage.plan.end() ? 0 : found->second;
  };
  const double planned = planned_bytes("total_bytes"), measured = highest(stage.metric("memory_bytes"));
  if (planned <= 0 && measured <= 0) return "";
  TableSummary table;
  if (planned > 0) table.rows.push_back({"Planned, all ranks", bytes_text(planned)});
  if (measured > 0) table.rows.push_back({"Measured, all ranks, peak", bytes_text(measured)});
  if (planned > 0 && measured > 0)
    table.rows.push_back({"Measured of planned", fmt::format("{:.0f} %", 100 * measured / planned)});
  TableSummary parts;
  for (const auto& [key, name] : kParts)
    if (planned_bytes(key) > 0) parts.rows.push_back({name, bytes_text(planned_bytes(key))});
  if (parts.rows.empty()) return render_table(table);
  return render_table(table) + "<details><summary>Parts of the plan</summary>" + render_table(parts) + "</details>\n";
}

std::string render_speed_table(const StageSummary& stage) {
  TableSummary table;
  const auto add = [&](const char* name, const std::string& value) { table.rows.push_back({name, value}); };
  if (const double speed = median(stage.metric("tokens_per_second")); std::isfinite(speed))
    add("Tokens per second, median", render_number(speed));
  if (const double speed = median(stage.metric("step_seconds")); std::isfinite(speed))
    add("Seconds per step, median", render_number(speed));
  if (const auto tokens = stage.last("num_tokens"); tokens && std::isfinite(*tokens))
    add("Tokens in total", render_number(*tokens));
  if (stage.seconds) add("Time of the stage", render_seconds(*stage.seconds));
  return table.rows.empty() ? "" : render_table(table);
}

/// "from 12.5 %": the first of several evaluations.
std::string first_remark(const std::vector<PlotPoint>& points, bool is_share) {
  if (points.size() < 2 || !std::isfinite(points.front().y)) return "";
  return "from " + (is_share ? render_share(points.front().y) : render_number(points.front().y));
}

}  // namespace

std::string stage_title(const std::string& stage_name) {
  if (stage_name == "sft") return "Supervised fine-tuning";
  if (stage_name == "reward") return "Reward model";
  if (stage_name == "dpo") return "Direct preference optimization";
  if (stage_name == "grpo") return "Group relative policy optimization";
  if (stage_name == "rloo") return "Reinforcement, leaving one out";
  return stage_name.empty() ? "Run" : readable_name(stage_name);
}

std::vector<KeyFigure> key_figures(const StageSummary& stage) {
  std::vector<KeyFigure> figures;
  const auto add = [&](const char* label, const std::string& key, bool is_share) {
    // the value on held-out rows is more informative
    const std::string eval_key = "eval_" + key;
    const bool is_held_out = has_finite(stage.metric(eval_key));
    const auto& points = stage.metric(is_held_out ? eval_key : key);
    if (!has_finite(points)) return;
    const double value = last_finite(points);
    std::string remark = first_remark(points, is_share);
    if (is_held_out) remark = remark.empty() ? "held out" : "held out, " + remark;
    figures.push_back({label, is_share ? render_share(value) : render_number(value), remark});
  };
  if (stage.name == "reward") {
    add("Reward accuracy", "accuracy", true);
    add("Reward margin", "margin", false);
    add("Reward loss", "loss", false);
  } else if (stage.name == "dpo") {
    add("DPO accuracy", "rewards/accuracies", true);
    add("DPO margin", "rewards/margins", false);
    add("DPO loss", "loss", false);
  } else if (stage.name == "grpo" || stage.name == "rloo") {
    add("Reward", "reward", false);
    add("KL divergence", "kl", false);
    add("Tokens of a completion", "completions/mean_length", false);
  } else {
    add("Loss", "loss", false);
    add("Exact match", "exact_match", true);
    if (!has_finite(stage.metric("eval_exact_match"))) add("Token accuracy", "mean_token_accuracy", true);
  }
  return figures;
}

std::string describe_progress(const StageSummary& stage) {
  if (stage.status == "pending") return "not started";
  const int64_t step = stage.last_step();
  std::vector<std::string> parts;
  if (stage.status == "done" || stage.num_steps == 0) {
    parts.push_back(fmt::format("{} steps", render_count(step)));
    if (const auto epoch = stage.last("epoch"); epoch && std::isfinite(*epoch))
      parts.push_back(fmt::format("{} epochs", render_number(std::round(*epoch * 100) / 100)));
    if (const auto tokens = stage.last("num_tokens"); tokens && *tokens > 0)
      parts.push_back(render_magnitude(*tokens) + " tokens");
    if (stage.seconds) parts.push_back(render_seconds(*stage.seconds));
  } else {
    parts.push_back(fmt::format("step {} of {}", render_count(step), render_count(stage.num_steps)));
    const double left = median(stage.metric("step_seconds")) * static_cast<double>(stage.num_steps - step);
    if (stage.status == "running" && std::isfinite(left)) parts.push_back("about " + render_seconds(left) + " left");
  }
  return fmt::format("{}", fmt::join(parts, ", "));
}

std::string render_stage(const StageSummary& stage, const std::string& id) {
  std::string out =
      fmt::format("<section id=\"{}\"><h2>{}</h2><p class=\"quiet\"><span class=\"{}\">{}</span>, {}</p>\n", id,
                  escape_html(stage_title(stage.name), 80), escape_html(stage.status, 20),
                  escape_html(stage.status, 20), escape_html(describe_progress(stage)));
  std::set<std::string> shown;
  out += render_main_plots(stage, shown);
  out += render_findings(stage.notes);
  out += render_samples(stage.notes.samples);
  out += render_small_plots(stage, shown);
  const std::string memory = render_memory_plot(stage) + render_memory_table(stage);
  const std::string speed = render_speed_plot(stage) + render_speed_table(stage);
  if (!memory.empty() || !speed.empty()) {
    out += "<h3>Memory and speed</h3><div class=\"pair\"><div>" + memory + "</div><div>" + speed + "</div></div>\n";
  }
  out += render_datasets(stage.datasets);
  out += render_checks(stage.checks);
  return out + "</section>\n";
}

}  // namespace plumb
