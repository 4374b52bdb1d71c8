// The files to write and the sbatch commands of plumb submit, made from an INI file and what the job should
// be. A function of values: nothing is written or started here. Source: sbatch(1) of Slurm 22.05.
#pragma once

#include <string>
#include <vector>

#include "apps/batch/sweep.hpp"

namespace plumb {

struct JobOptions {
  std::string nodes = "1";  // "4" or "3-4"
  std::string time;         // as sbatch takes it; "": the partition's default
  std::vector<std::string> array;
  bool per_stage = false;
  int64_t cpus_per_task = 0;  // 0: not given
  std::vector<std::string> mail_type;
  std::string mail_user, partition, account, qos, constraint, name;
  std::string script;  // train.sbatch
};

struct NewFile {
  std::string path, text;
};

/// One sbatch command.
struct BatchJob {
  std::vector<std::string> words;  // after "sbatch", without the dependency
  int after = -1;                  // index of the job that must have completed; -1: none
  bool is_array = false;
};

struct Submission {
  std::vector<NewFile> files;
  std::vector<BatchJob> jobs;
  std::vector<std::string> output_dirs;           // of all runs
  std::vector<std::vector<PlannedStage>> stages;  // of each run
};

/// save_seconds: the longest checkpoint of an earlier start of the run, step_seconds: of a step; 0: unknown. Throws
/// UsageError that names the option or the line of the file.
Submission plan_submission(const RunFile& run, const JobOptions& options, double save_seconds, double step_seconds);

/// Seconds before its time limit at which a job must be told: three checkpoints, two steps and a minute.
int64_t signal_seconds(double save_seconds, double step_seconds);

/// Seconds of sbatch's --time: "90", "90:00", "1:30:00", "1-0", "1-0:30". Throws UsageError.
int64_t parse_slurm_time(const std::string& text);

/// A word as a shell takes it.
std::string quote_for_shell(const std::string& word);

/// The commands that a user could type, a line each: job1=$(sbatch --parsable ...).
std::string render_commands(const Submission& submission);

}  // namespace plumb
