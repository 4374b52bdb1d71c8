// plumb submit: an INI file and an allocation become jobs of slurm/train.sbatch. A dry run unless --submit is given.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "apps/batch/sbatch.hpp"
#include "apps/batch/submission.hpp"
#include "apps/commands/commands.hpp"
#include "apps/commands/single_rank.hpp"
#include "apps/options/ini.hpp"
#include "apps/options/options.hpp"
#include "apps/pipeline/pipeline.hpp"
#include "io/file/atomic_file.hpp"
#include "io/file/file.hpp"
#include "io/records/data_files.hpp"
#include "io/run/status.hpp"
#include "lib/base/check.hpp"
#include "lib/base/log.hpp"

namespace plumb {

namespace {

namespace fs = std::filesystem;

constexpr int64_t kMaxFileBytes = 16 << 20;
constexpr size_t kMaxFilesShown = 4;

struct SubmitOptions {
  std::string file;
  std::optional<Stage> stage;
  JobOptions job;
  bool submits = false;
};

RunFile read_run_file(const SubmitOptions& o) {
  if (!is_regular_file(o.file)) throw_error<UsageError>("{}: cannot be read: expected an INI file, got none", o.file);
  const std::string text = read_text_file(o.file, kMaxFileBytes);
  std::vector<IniSection> sections = parse_ini(text, o.file);
  if (sections.size() == 1) {
    if (!o.stage)
      throw_error<UsageError>("{}: has no sections: name its command with --stage sft, reward, dpo, grpo or rloo",
                              o.file);
    return {{o.file, sections[0].settings, {}}, o.stage};
  }
  if (o.stage) throw_error<UsageError>("--stage {}: {} has sections, which are its stages", name_of(*o.stage), o.file);
  return {parse_pipeline_file(text, o.file), std::nullopt};
}

std::string own_program() { return fs::read_symlink("/proc/self/exe").string(); }

/// Beside this program: where it is built, and where it is installed.
std::string find_script(const std::string& given) {
  const fs::path folder = fs::path(own_program()).parent_path();
  for (const fs::path& path :
       {fs::path(given), folder / "../slurm/train.sbatch", folder / "../share/plumb/slurm/train.sbatch"})
    if (is_regular_file(path.string())) return fs::canonical(path).string();
  throw_error<UsageError>("--script {}: expected slurm/train.sbatch, found none there or beside {}", given,
                          own_program());
}

struct Measured {
  double save_seconds = 0, step_seconds = 0;
};

/// The slowest of the runs in a directory and up to two levels below: stages, tasks, stages of tasks.
Measured measured_in(const std::string& directory, int levels = 2) {
  Measured slowest;
  const auto include = [&](const Measured& other) {
    slowest.save_seconds = std::max(slowest.save_seconds, other.save_seconds);
    slowest.step_seconds = std::max(slowest.step_seconds, other.step_seconds);
  };
  try {
    if (const auto status = read_run_status(directory)) include({status->save_seconds, status->step_seconds});
  } catch (const DataError& error) {
    log_warning("{}", error.what());
  }
  std::error_code error;
  if (levels > 0)
    for (fs::directory_iterator entry(directory, error), end; !error && entry != end; entry.increment(error))
      if (entry->is_directory(error)) include(measured_in(entry->path().string(), levels - 1));
  return slowest;
}

void check_inputs(std::vector<PlannedStage> stages) {
  for (PlannedStage& stage : stages) {
    stage.options.data.data = find_data_files(stage.options.data.data).paths;
    stage.options.eval_data = find_data_files(stage.options.eval_data).paths;
  }
  check_inputs_exist(stages);
}

std::string describe_signal(const Measured& measured) {
  if (measured.save_seconds <= 0)
    return "no checkpoint of this run was measured yet: it is told 180 s before its time limit (train.sbatch)";
  return fmt::format(
      "its checkpoints took up to {:.1f} s, its last step {:.1f} s: it is told {} s before its time limit",
      measured.save_seconds, measured.step_seconds, signal_seconds(measured.save_seconds, measured.step_seconds));
}

void print_script(const std::string& script) {
  fmt::print("# {} has\n", script);
  std::ifstream file(script);
  for (std::string line; std::getline(file, line);)
    if (line.starts_with("#SBATCH")) fmt::print("#   {}\n", line);
}

void print_files(const std::vector<NewFile>& files) {
  for (size_t i = 0; i < files.size() && i < kMaxFilesShown; ++i) {
    fmt::print("# {}:\n", files[i].path);
    for (size_t begin = 0; begin < files[i].text.size();) {
      const size_t end = std::min(files[i].text.find('\n', begin), files[i].text.size());
      fmt::print("#   {}\n", files[i].text.substr(begin, end - begin));
      begin = end + 1;
    }
  }
  if (files.size() > kMaxFilesShown) fmt::print("# and {} more files\n", files.size() - kMaxFilesShown);
}

void submit_jobs(const Submission& submission) {
  for (const NewFile& file : submission.files) {
    fs::create_directories(parent_path(file.path));
    write_file_atomically(file.path, file.text);
  }
  std::vector<std::string> ids;
  for (const BatchJob& job : submission.jobs) {
    std::vector<std::string> words;
    if (job.after >= 0)
      words = {fmt::format("--dependency={}:{}", job.is_array ? "aftercorr" : "afterok", ids[job.after]),
               "--kill-on-invalid-dep=yes"};
    words.insert(words.end(), job.words.begin(), job.words.end());
    try {
      ids.push_back(run_sbatch(words));
    } catch (const InputOutputError& error) {
      if (ids.empty()) throw;
      throw_error<InputOutputError>("{}; already submitted: {} (scancel removes them)", error.what(),
                                    fmt::join(ids, " "));
    }
    fmt::print("submitted job {}\n", ids.back());
    std::fflush(stdout);
  }
}

/// For the job: this program, unless the site's settings name another, and those settings beside the script.
void set_environment(const std::string& script, bool prints) {
  const std::string site = join_path(parent_path(script), "site.env");
  for (const auto& [name, value] : {std::pair<const char*, std::string>("PLUMB_PROGRAM", own_program()),
                                    std::pair<const char*, std::string>("PLUMB_SITE", site)}) {
    if (std::getenv(name) == nullptr) ::setenv(name, value.c_str(), 1);
    if (prints) fmt::print("export {}={}\n", name, quote_for_shell(std::getenv(name)));
  }
}

int run_submit(const SubmitOptions& given) {
  require_single_rank("submit");
  SubmitOptions o = given;
  const RunFile run = read_run_file(o);
  o.job.script = find_script(o.job.script);
  const Measured measured = measured_in(pipeline_directory(run.file));
  const Submission submission = plan_submission(run, o.job, measured.save_seconds, measured.step_seconds);
  for (const std::vector<PlannedStage>& stages : submission.stages) check_inputs(stages);
  if (!o.submits) {
    print_script(o.job.script);
    fmt::print("# {}\n", describe_signal(measured));
    print_files(submission.files);
  }
  set_environment(o.job.script, !o.submits);
  if (!o.submits)
    fmt::print("{}# a dry run: nothing was written or submitted; --submit does both\n", render_commands(submission));
  if (o.submits) submit_jobs(submission);
  if (submission.output_dirs.size() > 1)
    fmt::print("# results: plumb compare {}\n", fmt::join(submission.output_dirs, " "));
  return kExitDone;
}

std::vector<BoundOption> bind_options(SubmitOptions& o) {
  constexpr OptionGroup kGroup = OptionGroup::kPlan;
  JobOptions& job = o.job;
  return {
      declare("file", OptionGroup::kData, o.file, "the INI file; the option's name may be left out",
              {.value_name = "FILE"}),
      declare("stage", kGroup, o.stage, "command of a file without sections"),
      declare("nodes", kGroup, job.nodes, "nodes of the job, or the least and the most (3-4)"),
      declare("time", kGroup, job.time, "time limit of a start, as sbatch takes it: 12:00:00"),
      declare("array", kGroup, job.array,
              "a job array over values of options: seed=1..5 or learning_rate=1e-5,3e-5 or dpo.beta=0.1,0.3; several "
              "make every combination"),
      declare("per_stage", kGroup, job.per_stage, "a job for each stage, which waits for the one before"),
      declare("cpus_per_task", kGroup, job.cpus_per_task, "threads of a rank; 0: one", {.range = between(0, 1024)}),
      declare("mail_type", kGroup, job.mail_type,
              "when Slurm writes a mail: BEGIN, END, FAIL, REQUEUE, TIME_LIMIT, ALL"),
      declare("mail_user", kGroup, job.mail_user, "address for the mail"),
      declare("partition", kGroup, job.partition, "passed to sbatch"),
      declare("account", kGroup, job.account, "passed to sbatch"),
      declare("qos", kGroup, job.qos, "passed to sbatch"),
      declare("constraint", kGroup, job.constraint, "passed to sbatch"),
      declare("name", kGroup, job.name, "of the job and its logs; default: that of the file"),
      declare("script", kGroup, job.script, "train.sbatch, where it is not beside the program", {.value_name = "FILE"}),
      declare("submit", kGroup, o.submits, "submit; without it the commands are printed only"),
  };
}

}  // namespace

Command submit_command() {
  return make_command<SubmitOptions>(
      {.name = "submit",
       .summary = "jobs of Slurm from an INI file: a run, a pipeline, a job per stage, a sweep",
       .usage = "FILE.ini [--nodes N] [--time HH:MM:SS] [--array OPTION=VALUES] [--submit]",
       .example = "plumb submit align.ini --nodes 4 --time 12:00:00 --array seed=1..5",
       .notes = "A dry run, which prints every sbatch command and every file, unless --submit is given.",
       .required = {"file"},
       .positional = "file"},
      bind_options, run_submit);
}

}  // namespace plumb
