// plumb status: the state of a run or a pipeline, human-readable, or as JSON and exit code for scripts and cron.
#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <optional>

#include "apps/commands/commands.hpp"
#include "apps/commands/single_rank.hpp"
#include "apps/options/options.hpp"
#include "apps/run/progress.hpp"
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
std::string standing_of(const RunStatus& run, bool is_locked, double now) {
  if (run.state != "running") return run.state;
  if (!is_locked) return "killed";
  return now - run.heartbeat > kSilentSeconds ? "silent" : "running";
}

int exit_code_of(const std::string& standing) {
  if (standing == "running" || standing == "done") return kExitDone;
  return standing == "failed" ? kExitInternal : kExitTransient;
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

/// Standing, human-readable text, and JSON.
struct Report {
  std::string standing;
  std::string text;
  OrderedJson json;
};

Report report_on_run(const std::string& directory, const RunStatus& run, double now) {
  Report report;
  report.standing = standing_of(run, is_run_locked(directory), now);
  report.text = describe(run, report.standing, now);
  report.json = to_json(run);
  report.json["standing"] = report.standing;
  report.json["heartbeat_age_seconds"] = now - run.heartbeat;
  return report;
}

std::string standing_of_pipeline(const OrderedJson& stages, bool is_locked) {
  const auto count = [&](std::string_view status) {
    return std::count_if(stages.begin(), stages.end(),
                         [&](const OrderedJson& stage) { return get_text(stage, "status") == status; });
  };
  if (is_locked) return "running";
  if (count("done") == std::ssize(stages)) return "done";
  if (count("failed") > 0) return "failed";
  return count("running") > 0 ? "killed" : "stopped";
}

Report report_on_pipeline(const std::string& directory, const OrderedJson& stages, double now) {
  Report report;
  report.standing = standing_of_pipeline(stages, is_run_locked(directory));
  report.text = fmt::format("pipeline: {}\n", report.standing);
  report.json["standing"] = report.standing;
  for (const OrderedJson& stage : stages) {
    const std::string name = get_text(stage, "name"), status = get_text(stage, "status");
    OrderedJson entry = {{"name", name}, {"status", status}};
    const std::string stage_directory = join_path(directory, get_text(stage, "directory"));
    const std::optional<RunStatus> run = status == "pending" ? std::nullopt : read_run_status(stage_directory);
    if (run && status != "done") {
      const Report of_stage = report_on_run(stage_directory, *run, now);
      report.text += of_stage.text;
      entry["run"] = of_stage.json;
      // a run that hangs is seen in the stage
      if (report.standing == "running" && of_stage.standing == "silent") report.standing = "silent";
    } else {
      report.text += fmt::format("{}: {}\n", name, status);
    }
    report.json["stages"].push_back(entry);
  }
  report.json["standing"] = report.standing;
  return report;
}

Report report_on(const std::string& directory) {
  const double now = wall_seconds();
  const std::string pipeline = join_path(directory, "pipeline.json");
  if (is_regular_file(pipeline)) {
    const OrderedJson state =
        OrderedJson::parse(read_text_file(pipeline, kMaxStateBytes), nullptr, /*allow_exceptions=*/false);
    const OrderedJson& stages = get_or_null(state, "stages");
    if (!stages.is_array())
      throw_error<DataError>("{}: expected the state of a pipeline, got something else", pipeline);
    return report_on_pipeline(directory, stages, now);
  }
  const std::optional<RunStatus> run = read_run_status(directory);
  if (!run)
    throw_error<InputOutputError>("{}: expected the directory of a run or pipeline, found no {} and no pipeline.json",
                                  directory, kStatusFileName);
  return report_on_run(directory, *run, now);
}

struct StatusOptions {
  std::string output_dir;
  bool is_json = false;
};

std::vector<BoundOption> bind_options(StatusOptions& o) {
  return {declare("output_dir", OptionGroup::kOutput, o.output_dir,
                  "directory of a run or pipeline; the option's name may be left out", {.value_name = "DIR"}),
          declare("json", OptionGroup::kOutput, o.is_json, "print JSON, for programs")};
}

int run_status(const StatusOptions& o) {
  require_single_rank("status");
  const Report report = report_on(o.output_dir);
  if (o.is_json) {
    fmt::print("{}\n", report.json.dump(2, ' ', false, OrderedJson::error_handler_t::replace));
  } else {
    fmt::print("{}", report.text);
  }
  return exit_code_of(report.standing);
}

}  // namespace

Command status_command() {
  return make_command<StatusOptions>(
      {.name = "status",
       .summary = "show the state of a run or pipeline (--json for scripts)",
       .usage = "DIR [--json]",
       .example = "plumb status run",
       .notes = "Exit code: 0 running or done; 75 stopped, killed or silent (start it again); 70 failed.",
       .required = {"output_dir"},
       .positional = "output_dir"},
      bind_options, run_status);
}

}  // namespace plumb
