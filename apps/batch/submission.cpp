#include "apps/batch/submission.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <regex>

#include "apps/options/ini.hpp"
#include "io/file/file.hpp"
#include "lib/base/check.hpp"
#include "lib/base/text_format.hpp"

namespace plumb {

namespace {

constexpr int64_t kDefaultSignalSeconds = 180;  // of slurm/train.sbatch
constexpr const char* kMailTypes[] = {"NONE",      "BEGIN",          "END",           "FAIL",          "REQUEUE",
                                      "ALL",       "TIME_LIMIT",     "TIME_LIMIT_90", "TIME_LIMIT_80", "TIME_LIMIT_50",
                                      "STAGE_OUT", "INVALID_DEPEND", "ARRAY_TASKS"};

bool matches(const std::string& text, const char* pattern) { return std::regex_match(text, std::regex(pattern)); }

void check_nodes(const std::string& nodes) {
  int64_t least = 0, most = 0;
  const char* const end = nodes.data() + nodes.size();
  if (matches(nodes, "[0-9]{1,6}(-[0-9]{1,6})?")) {
    const auto read = std::from_chars(nodes.data(), end, least);
    most = least;
    if (read.ptr != end) std::from_chars(read.ptr + 1, end, most);
  }
  if (least < 1 || most < least)
    throw_error<UsageError>("--nodes {}: expected a number of nodes, or the least and the most, such as 3-4", nodes);
}

void check_mail(const JobOptions& o) {
  for (const std::string& type : o.mail_type)
    if (std::find(std::begin(kMailTypes), std::end(kMailTypes), type) == std::end(kMailTypes))
      throw_not_one_of("mail_type", type, std::vector<std::string>(std::begin(kMailTypes), std::end(kMailTypes)));
  if (o.mail_type.empty() && !o.mail_user.empty())
    throw_error<UsageError>("--mail_user {}: expected --mail_type, too, without which no mail is sent", o.mail_user);
}

/// A word that sbatch takes for a name: what else it holds would be an option, or several words in the printed command.
void check_name(const char* option, const std::string& value) {
  if (!value.empty() && (value.front() == '-' || !matches(value, "[!-~]+")))
    throw_error<UsageError>("--{} {}: expected one word without blanks that begins with no dash", option, value);
}

std::string stem_of(const std::string& path) {
  const std::string name = path.substr(path.find_last_of('/') + 1);
  return name.substr(0, name.rfind('.'));
}

/// The part of a pipeline that ends with its stage `last`, which has all options that these stages know.
PipelineFile prefix_of(const PipelineFile& file, size_t last) {
  PipelineFile prefix{file.path, {}, {file.sections.begin(), file.sections.begin() + static_cast<int64_t>(last) + 1}};
  for (const Setting& setting : file.common)
    if (setting.name == "output_dir" ||
        std::any_of(prefix.sections.begin(), prefix.sections.end(), [&](const PipelineFile::Section& section) {
          return find_option(training_options(section.stage), setting.name) != nullptr;
        }))
      prefix.common.push_back(setting);
  return prefix;
}

std::vector<PlannedStage> plan(const RunFile& run) {
  if (!run.stage) return plan_pipeline(run.file);
  PlannedStage stage{parse_train_options(*run.stage, run.file.common), {}};
  validate(stage.options);
  return {stage};
}

std::vector<std::string> options_of_sbatch(const JobOptions& o, const std::string& name, int64_t signal,
                                           size_t num_tasks) {
  std::vector<std::string> words = {"--parsable", "--job-name=" + name, "--nodes=" + o.nodes};
  const auto add = [&](const char* option, const std::string& value) {
    if (!value.empty()) words.push_back(fmt::format("--{}={}", option, value));
  };
  add("time", o.time);
  add("array", num_tasks > 0 ? fmt::format("1-{}", num_tasks) : "");
  add("output", num_tasks > 0 ? fmt::format("{}-%A_%a.log", name) : fmt::format("{}-%j.log", name));
  add("signal", signal > 0 ? fmt::format("B:USR1@{}", signal) : "");
  add("cpus-per-task", o.cpus_per_task > 0 ? std::to_string(o.cpus_per_task) : "");
  add("partition", o.partition);
  add("account", o.account);
  add("qos", o.qos);
  add("constraint", o.constraint);
  add("mail-type", fmt::format("{}", fmt::join(o.mail_type, ",")));
  add("mail-user", o.mail_user);
  return words;
}

/// The end of the command: the script, and the plumb command on this file.
void append_command(std::vector<std::string>& words, const JobOptions& o, const RunFile& run, const std::string& path) {
  words.push_back(o.script);
  words.push_back(run.stage ? std::string(name_of(*run.stage)) : "pipeline");
  if (run.stage) words.push_back("--config");
  words.push_back(path);
}

void check_options(const JobOptions& o, int64_t signal) {
  check_nodes(o.nodes);
  check_mail(o);
  for (const auto& [option, value] :
       {std::pair("mail_user", &o.mail_user), std::pair("partition", &o.partition), std::pair("account", &o.account),
        std::pair("qos", &o.qos), std::pair("constraint", &o.constraint), std::pair("name", &o.name)})
    check_name(option, *value);
  if (o.time.empty()) return;
  const int64_t seconds = parse_slurm_time(o.time), warning = signal > 0 ? signal : kDefaultSignalSeconds;
  if (seconds <= warning + 60)
    throw_error<UsageError>("--time {}: expected more than the {} s that the job is told before its end, and a minute",
                            o.time, warning);
}

/// The jobs of a run or of all tasks of a sweep: one, or one per stage.
void add_jobs(Submission& submission, const RunFile& run, const std::vector<SweepTask>& tasks, const JobOptions& o,
              int64_t signal) {
  const std::string name = o.name.empty() ? stem_of(run.file.path) : o.name;
  const std::string folder = join_path(pipeline_directory(run.file), "submit");
  const size_t num_jobs = o.per_stage ? run.file.sections.size() : 1;
  for (size_t job = 0; job < num_jobs; ++job) {
    const std::string_view stage = o.per_stage ? name_of(run.file.sections[job].stage) : "";
    const std::string suffix = o.per_stage ? fmt::format("{}-{}", job + 1, stage) : "";
    const auto text_of = [&](const RunFile& whole) {
      return render_pipeline_file(o.per_stage ? prefix_of(whole.file, job) : whole.file);
    };
    const auto path_of = [&](const std::string& task) {
      return join_path(folder, fmt::format("{}{}{}.ini", task, task.empty() || suffix.empty() ? "" : "-", suffix));
    };
    std::string path = run.file.path;
    if (!tasks.empty()) path = path_of("%a");
    if (tasks.empty() && o.per_stage) path = path_of("");
    for (size_t i = 0; i < tasks.size(); ++i)
      submission.files.push_back({path_of(std::to_string(i + 1)), text_of(tasks[i].run)});
    if (tasks.empty() && o.per_stage) submission.files.push_back({path, text_of(run)});
    BatchJob& added = submission.jobs.emplace_back();
    added.words = options_of_sbatch(o, o.per_stage ? fmt::format("{}-{}", name, stage) : name, signal, tasks.size());
    append_command(added.words, o, run, path);
    added.after = static_cast<int>(job) - 1;
    added.is_array = !tasks.empty();
  }
}

}  // namespace

int64_t signal_seconds(double save_seconds, double step_seconds) {
  if (save_seconds <= 0) return 0;
  const double seconds = std::ceil((60 + 3 * save_seconds + 2 * step_seconds) / 10) * 10;
  return std::max(kDefaultSignalSeconds, static_cast<int64_t>(std::min(seconds, 65535.0)));  // sbatch takes no more
}

int64_t parse_slurm_time(const std::string& text) {
  static const std::regex kForm(R"((?:(\d{1,5})-)?(\d{1,7})(?::(\d{1,2}))?(?::(\d{1,2}))?)");
  std::smatch parts;
  if (!std::regex_match(text, parts, kForm))
    throw_error<UsageError>(
        "--time {}: expected minutes, MINUTES:SECONDS, HOURS:MINUTES:SECONDS or DAYS-HOURS[:MINUTES]", text);
  const auto number = [&](int i) { return parts[i].matched ? std::stoll(parts[i].str()) : 0; };
  if (parts[1].matched) return ((number(1) * 24 + number(2)) * 60 + number(3)) * 60 + number(4);
  if (parts[4].matched) return (number(2) * 60 + number(3)) * 60 + number(4);
  return number(2) * 60 + number(3);
}

Submission plan_submission(const RunFile& run, const JobOptions& o, double save_seconds, double step_seconds) {
  const int64_t signal = signal_seconds(save_seconds, step_seconds);
  check_options(o, signal);
  if (o.per_stage && run.stage)
    throw_error<UsageError>("--per_stage: {} has no sections, so there is one stage", run.file.path);
  const std::vector<SweepTask> tasks = sweep(run, parse_sweep(o.array));
  Submission submission;
  std::vector<RunFile> runs;
  for (const SweepTask& task : tasks) runs.push_back(task.run);
  if (tasks.empty()) runs = {run};
  for (const RunFile& each : runs) {
    submission.stages.push_back(plan(each));
    submission.output_dirs.push_back(pipeline_directory(each.file));
  }
  add_jobs(submission, run, tasks, o, signal);
  return submission;
}

std::string quote_for_shell(const std::string& word) {
  if (matches(word, "[A-Za-z0-9_./:@%+=,-]+")) return word;
  return fmt::format("'{}'", std::regex_replace(word, std::regex("'"), "'\\''"));
}

std::string render_commands(const Submission& submission) {
  std::string text;
  for (size_t i = 0; i < submission.jobs.size(); ++i) {
    const BatchJob& job = submission.jobs[i];
    std::vector<std::string> words = {"sbatch"};
    if (job.after >= 0)
      words.push_back(fmt::format("--dependency={}:$job{} --kill-on-invalid-dep=yes",
                                  job.is_array ? "aftercorr" : "afterok", job.after + 1));
    for (const std::string& word : job.words) words.push_back(quote_for_shell(word));
    text += fmt::format("job{}=$({})\n", i + 1, fmt::join(words, " "));
  }
  return text;
}

}  // namespace plumb
