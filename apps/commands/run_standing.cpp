#include "apps/commands/run_standing.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <map>
#include <optional>

#include "io/file/file.hpp"
#include "io/file/json_tolerant.hpp"
#include "io/run/lock.hpp"
#include "io/run/status.hpp"
#include "lib/base/check.hpp"
#include "lib/base/text_format.hpp"

namespace plumb {

namespace {

constexpr int64_t kMaxStateBytes = 16 << 20;
constexpr double kSilentSeconds = 60;  // a heartbeat older than this has missed five
constexpr double kOverdueSteps = 10;   // a step that takes this many times as long as the last

/// The state of a run: as its status.json has it, unless its process has died since.
std::string state_of(const RunStatus& run, bool is_locked, double now) {
  if (run.state != "running") return run.state;
  if (!is_locked) return "killed";
  return now - run.heartbeat > kSilentSeconds ? "silent" : "running";
}

std::string ago(double time, double now) { return render_duration(now - time) + " ago"; }

std::string describe(const RunStatus& run, const std::string& standing, double now) {
  std::string text = fmt::format("{}: {}", run.command, standing);
  if (run.num_steps == 0) {
    text += ", before its first step";
  } else {
    text += fmt::format(", step {} of {}, loss {:.4f}, {:.0f} tokens/s", run.step, run.num_steps, run.loss,
                        run.tokens_per_second);
    if (standing == "running") text += fmt::format(", {} left", render_duration(run.seconds_left));
    if (run.memory_bytes > 0) text += ", " + render_bytes(run.memory_bytes);
  }
  text += fmt::format("\n  {} {} on {}, process {}{}; heartbeat {}", run.num_ranks,
                      run.num_ranks == 1 ? "rank" : "ranks, the first", run.process.host, run.process.pid,
                      run.process.job.empty() ? "" : ", job " + run.process.job, ago(run.heartbeat, now));
  if (run.step_time > 0) text += ", last step " + ago(run.step_time, now);
  const bool is_overdue = run.step_time > 0 && standing == "running" &&
                          now - run.step_time > std::max(kSilentSeconds, kOverdueSteps * run.step_seconds);
  if (is_overdue) text += " (overdue)";
  if (!run.checkpoint.empty()) text += "\n  last checkpoint: " + run.checkpoint;
  if (!run.message.empty()) text += "\n  " + run.message;
  return text + "\n";
}

/// "next checkpoint: step 500, in 3:20", by the options of the run; "" where none follows.
std::string describe_next_checkpoint(const std::string& directory, const RunStatus& run) {
  std::vector<std::string> ignored;
  const OrderedJson run_json = read_json_file(join_path(directory, "run.json"), ignored);
  const int64_t save_steps = std::atoll(get_text(get_or_null(run_json, "options"), "save_steps").c_str());
  if (save_steps <= 0 || run.num_steps <= 0 || run.step >= run.num_steps) return "";
  const int64_t next = std::min(run.num_steps, (run.step / save_steps + 1) * save_steps);
  return fmt::format("  next checkpoint: step {}, in {}\n", next,
                     render_duration(static_cast<double>(next - run.step) * run.step_seconds));
}

Standing standing_of_run(const std::string& directory, const RunStatus& run, double now) {
  Standing report;
  report.state = state_of(run, is_run_locked(directory), now);
  report.text = describe(run, report.state, now);
  if (report.state == "running") report.text += describe_next_checkpoint(directory, run);
  if (!run.slow_ranks.empty()) report.text += fmt::format("  slow ranks: {}\n", run.slow_ranks);
  report.summary = report.text.substr(report.text.find(' ') + 1);  // after "sft: "
  report.summary.resize(report.summary.find('\n'));
  report.json = to_json(run);
  report.json["standing"] = report.state;
  report.json["heartbeat_age_seconds"] = now - run.heartbeat;
  report.active_directory = directory;
  return report;
}

std::string state_of_pipeline(const OrderedJson& stages, bool is_locked) {
  const auto count = [&](std::string_view status) {
    return std::count_if(stages.begin(), stages.end(),
                         [&](const OrderedJson& stage) { return get_text(stage, "status") == status; });
  };
  if (is_locked) return "running";
  if (count("done") == std::ssize(stages)) return "done";
  if (count("failed") > 0) return "failed";
  return count("running") > 0 ? "killed" : "stopped";
}

Standing standing_of_stages(const std::string& directory, const OrderedJson& stages, double now) {
  Standing report;
  report.state = state_of_pipeline(stages, is_run_locked(directory));
  report.text = fmt::format("pipeline: {}\n", report.state);
  report.summary = report.state;
  report.json["standing"] = report.state;
  for (const OrderedJson& stage : stages) {
    const std::string name = get_text(stage, "name"), status = get_text(stage, "status");
    OrderedJson entry = {{"name", name}, {"status", status}};
    const std::string stage_directory = join_path(directory, get_text(stage, "directory"));
    const std::optional<RunStatus> run = status == "pending" ? std::nullopt : read_run_status(stage_directory);
    if (run) report.active_directory = stage_directory;
    if (run && status != "done") {
      const Standing of_stage = standing_of_run(stage_directory, *run, now);
      report.summary = fmt::format("{}, {}: {}", report.state, name, of_stage.summary);
      report.text += of_stage.text;
      entry["run"] = of_stage.json;
      // a run that hangs is seen in the stage
      if (report.state == "running" && of_stage.state == "silent") report.state = "silent";
    } else {
      report.text += fmt::format("{}: {}\n", name, status);
    }
    report.json["stages"].push_back(entry);
  }
  report.json["standing"] = report.state;
  return report;
}

/// The runs and pipelines directly below a directory, by name.
std::vector<std::string> runs_below(const std::string& directory) {
  std::vector<std::string> names;
  std::error_code error;
  for (std::filesystem::directory_iterator entry(directory, error), end; !error && entry != end;
       entry.increment(error)) {
    const std::string path = entry->path().string();
    if (is_regular_file(join_path(path, "pipeline.json")) || is_regular_file(join_path(path, kStatusFileName)))
      names.push_back(entry->path().filename().string());
  }
  std::sort(names.begin(), names.end());
  return names;
}

/// A sweep: the first paragraph of each run.
Standing standing_of_runs(const std::string& directory, const std::vector<std::string>& names) {
  Standing all;
  std::map<std::string, int> counts;
  std::string lines;
  for (const std::string& name : names) {
    const Standing run = standing_of(join_path(directory, name));
    ++counts[run.state];
    lines += fmt::format("{}: {}\n", name, run.summary);
    all.json["runs"].push_back({{"name", name}, {"run", run.json}});
    if (all.active_directory.empty() || run.state == "running") all.active_directory = run.active_directory;
  }
  std::vector<std::string> parts;
  for (const auto& [state, count] : counts) parts.push_back(fmt::format("{} {}", count, state));
  // the state that needs somebody first
  for (const char* state : {"failed", "silent", "killed", "stopped", "running", "done"})
    if (all.state.empty() && counts.contains(state)) all.state = state;
  all.summary = fmt::format("{} runs: {}", names.size(), fmt::join(parts, ", "));
  all.text = all.summary + "\n" + lines;
  all.json["standing"] = all.state;
  return all;
}

}  // namespace

int exit_code_of(const std::string& state) {
  if (state == "running" || state == "done") return kExitDone;
  return state == "failed" ? kExitInternal : kExitTransient;
}

Standing standing_of(const std::string& directory) {
  const double now = wall_seconds();
  const std::string pipeline = join_path(directory, "pipeline.json");
  if (is_regular_file(pipeline)) {
    const OrderedJson state =
        OrderedJson::parse(read_text_file(pipeline, kMaxStateBytes), nullptr, /*allow_exceptions=*/false);
    const OrderedJson& stages = get_or_null(state, "stages");
    if (!stages.is_array())
      throw_error<DataError>("{}: expected the state of a pipeline, got something else", pipeline);
    return standing_of_stages(directory, stages, now);
  }
  const std::optional<RunStatus> run = read_run_status(directory);
  if (!run) {
    if (const std::vector<std::string> names = runs_below(directory); !names.empty())
      return standing_of_runs(directory, names);
    throw_error<InputOutputError>("{}: expected the directory of a run or pipeline, found no {} and no pipeline.json",
                                  directory, kStatusFileName);
  }
  return standing_of_run(directory, *run, now);
}

}  // namespace plumb
