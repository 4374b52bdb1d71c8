#include "tests/faults/fault_harness.hpp"

#include <algorithm>
#include <chrono>
#include <csignal>
#include <filesystem>
#include <stdexcept>

#include "tests/faults/damage.hpp"
#include "tests/faults/leftovers.hpp"
#include "tests/support/rows.hpp"

namespace plumb::test {

namespace fs = std::filesystem;

namespace {

constexpr int kRows = 100;  // just over four steps per epoch, so that epochs end within checkpoint intervals
constexpr double kTimeoutSeconds = 300;

void require_exit(const RunResult& result, int exit_code, const std::string& what) {
  if (result.exit_code != exit_code)
    throw std::runtime_error(what + " ended with " + std::to_string(result.exit_code) + ":\n" + result.err +
                             result.launcher);
}

}  // namespace

double monotonic_seconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

FaultHarness::FaultHarness(const std::string& directory, const Length& length)
    : directory_(directory), length_(length) {
  fs::create_directories(directory + "/inputs");
  write_file(directory + "/inputs/rows.jsonl", rows(kRows));
  write_file(directory + "/inputs/pairs.jsonl", pairs(kRows));
  require_exit(make_tiny_model(directory + "/inputs"), 0, "plumb init");
  fs::remove_all(directory + "/inputs/tmp");
  golden("dpo");
}

const std::map<std::string, Outcome>& FaultHarness::golden(const std::string& second_stage) {
  std::map<std::string, Outcome>& outcomes = golden_[second_stage];
  if (!outcomes.empty()) return outcomes;
  Place place = make_place("golden", Start::kEmpty);
  place.second_stage = second_stage;
  const RunResult result = start(place, {.num_ranks = length_.num_ranks}, false);
  require_exit(result, 0, "the undisturbed run");
  if (second_stage == "dpo") golden_seconds_ = result.seconds;
  outcomes = read_outcomes(place / "run");
  if (outcomes.size() != 2) throw std::runtime_error("the undisturbed run did not export two models");
  clear(place);
  return outcomes;
}

Place FaultHarness::make_place(const std::string& name, Start start) {
  Place place{directory_ + "/" + name, start == Start::kBeforeGrpo ? "grpo" : "dpo"};
  fs::remove_all(place.directory);
  fs::copy(directory_ + "/inputs", place.directory, fs::copy_options::recursive);
  if (start != Start::kEmpty) fs::copy(state_of(start), place / "run", fs::copy_options::recursive);
  return place;
}

void FaultHarness::clear(const Place& place) const {
  remove_disk(place);
  fs::remove_all(place.directory);
}

std::string FaultHarness::state_of(Start start) {
  const bool is_in_dpo = start == Start::kInDpo, is_grpo = start == Start::kBeforeGrpo;
  std::string saved = directory_ + (is_in_dpo ? "/in_dpo" : is_grpo ? "/before_grpo" : "/sft_done");
  if (fs::exists(saved)) return saved;
  Place place = make_place("until" + saved.substr(saved.rfind('/') + 1), is_in_dpo ? Start::kSftDone : Start::kEmpty);
  if (is_grpo) place.second_stage = "grpo";
  const Attempt attempt{.num_ranks = length_.num_ranks,
                        .points = is_in_dpo ? "step:25:1:kill" : "stage-recorded:1:0:kill"};
  require_exit(this->start(place, attempt, false), 137, "the start of a row");
  fs::rename(place / "run", saved);
  clear(place);
  return saved;
}

void FaultHarness::write_ini(const Place& place, int num_ranks, bool is_async) const {
  const auto line = [](const char* name, auto value) {
    return std::string(name) + " = " + std::to_string(value) + "\n";
  };
  const std::map<std::string, std::string> second = {
      {"dpo", "data = pairs.jsonl\n"},
      {"grpo",
       "data = rows.jsonl\nreward_funcs = count length\ncount_text = e\nnum_generations = 4\nbeta = 0.04\n"
       "max_completion_length = 12\n" +
           line("steps_per_generation", 2 * kMicroBatches / num_ranks)}};
  write_file(place / "align.ini",
             "model = model\noutput_dir = run\nthreads = 1\nlearning_rate = 0.001\nper_device_train_batch_size = 1\n" +
                 line("gradient_accumulation_steps", kMicroBatches / num_ranks) +
                 line("logging_steps", length_.logging_steps) + line("save_steps", length_.save_steps) +
                 line("watchdog_seconds", kWatchdogSeconds) + line("max_steps", length_.steps_per_stage) +
                 (is_async ? "async_save = true\n" : "") + "[sft]\ndata = rows.jsonl\n[" + place.second_stage + "]\n" +
                 second.at(place.second_stage));
}

RunResult FaultHarness::start(const Place& place, const Attempt& attempt, bool is_async) const {
  write_ini(place, attempt.num_ranks, is_async);
  RunOptions options;
  options.environment = attempt.environment;
  options.environment["PLUMB_FAULT_HARNESS"] = directory_;
  if (!attempt.points.empty()) options.environment["PLUMB_FAULT"] = attempt.points;
  options.working_directory = place.directory;
  options.timeout_seconds = kTimeoutSeconds;
  if (attempt.acts) options.acts = attempt.acts(place);
  double ended_at = 0;
  if (attempt.kill == Kill::kLauncher)
    options.acts.push_back({" fault: ", 0, [&](pid_t launcher) {
                              ::kill(launcher, SIGKILL);
                              wait_for_end_of(mark(), kTimeToEndSeconds);
                              ended_at = monotonic_seconds();
                            }});
  if (attempt.kill == Kill::kAllRanks)
    options.acts.push_back({" fault: ", 0, [](pid_t launcher) {
                              for (const pid_t rank : children_of(launcher)) ::kill(rank, SIGKILL);
                            }});
  const std::vector<std::string> pipeline = {"pipeline", "align.ini"};
  RunResult result = run_plumb(attempt.num_ranks, attempt.arguments.empty() ? pipeline : attempt.arguments, options);
  if (ended_at > 0) result.ended_at = ended_at;  // end of the last rank, not of mpirun
  return result;
}

}  // namespace plumb::test
