// Non-finite numbers, changed options, other numbers of ranks, concurrent jobs, clock jumps, and signals that ask to
// stop.
#include <csignal>
#include <stdexcept>

#include "tests/faults/damage.hpp"
#include "tests/faults/fault_case.hpp"

namespace plumb::test {

namespace {

/// mpirun forwards SIGTERM to its ranks and kills them a second later, so how far they get is not certain.
FaultCase signal_to_launcher(const std::string& name, int signal, int exit_code, const std::string& named) {
  const auto act = [signal](pid_t launcher) { ::kill(launcher, signal); };
  return {.fault = name + " to mpirun",
          .phase = "step 13",
          .attempts = {{.acts =
                            [act](const Place&) {
                              return std::vector<Act>{{"step 13/30 ", 0, act}};
                            },
                        .exit_code = exit_code,
                        .named = named}},
          .max_detect_seconds = 10};
}

/// Starts a second job on a directory that another job writes to.
Act second_job(const Place& place) {
  return {"step 5/30 ", 0, [place](pid_t) {
            const RunResult second = run_plumb(4, {"pipeline", "align.ini"}, {.working_directory = place.directory});
            write_file(place / "second.txt", "exit code " + std::to_string(second.exit_code) + "\n" + second.err);
          }};
}

Act clock_jump(const Place& place) {
  return {"step 12/30 ", 0, [place](pid_t) { write_file(place / "jump", ""); }};
}

}  // namespace

std::vector<FaultCase> other_cases() {
  std::vector<FaultCase> cases;
  cases.push_back({.fault = "NaN in a batch",
                   .phase = "step 15 of dpo",
                   .attempts = {{.points = "data:15:3:nan", .exit_code = 70, .named = "step 15: loss nan"}},
                   .is_smoke = true,
                   .max_detect_seconds = 0});
  cases.push_back(
      {.fault = "bit flip in a parameter of one rank",
       .phase = "after the update of dpo step 16",
       .attempts = {{.points = "data:17:3:flip", .exit_code = 75, .named = "rank 3: memory corruption: parameters"}},
       .max_detect_seconds = 0});
  cases.push_back(
      {.fault = "bit flip in a parameter of one rank",
       .phase = "before the save of dpo step 20",
       .attempts = {{.points = "save:20:3:flip", .exit_code = 75, .named = "rank 3: memory corruption: parameters"}},
       .max_detect_seconds = 0});
  cases.push_back({.fault = "other options on resume",
                   .phase = "before a restart",
                   .start = Start::kInDpo,
                   .attempts = {{.arguments = {"dpo", "--model", "run/sft/model", "--data", "pairs.jsonl",
                                               "--output_dir", "run/dpo", "--threads", "1",
                                               "--per_device_train_batch_size", "1", "--gradient_accumulation_steps",
                                               "3", "--max_steps", "30", "--learning_rate", "0.002"},
                                 .exit_code = 2,
                                 .named = "learning_rate: 0.001, now 0.002"}},

                   .max_detect_seconds = 0});
  cases.push_back(
      {.fault = "SIGKILL of one rank, on 8, 4, 6, 3 and 8 ranks",
       .phase = "in the middle of epochs",
       .start = Start::kEmpty,
       .attempts = {{.num_ranks = 8, .points = "step:13:3:kill", .exit_code = 137, .named = "process rank 3"},
                    {.num_ranks = 4, .points = "step:24:2:kill", .exit_code = 137, .named = "process rank 2"},
                    {.num_ranks = 6, .points = "step:17:5:kill", .exit_code = 137, .named = "process rank 5"},
                    {.num_ranks = 3, .points = "step:28:0:kill", .exit_code = 137, .named = "process rank 0"}},
       .is_smoke = true});
  cases.push_back({.fault = "two jobs on one directory",
                   .phase = "step 5",
                   .attempts = {{.acts = [](const Place& place) { return std::vector<Act>{second_job(place)}; }}},
                   .is_smoke = true,
                   .max_detect_seconds = 0,
                   .mend = [](const Place& place) {
                     const std::string second = read_file(place / "second.txt");
                     if (!second.starts_with("exit code 2\n") || second.find("writes to it") == std::string::npos)
                       throw std::runtime_error("the second job was not refused: " + second);
                   }});
  for (const int seconds : {3600, -3600})
    for (const int rank : {0, 3}) {
      cases.push_back({.fault = "clock jumps by " + std::to_string(seconds) + " s",
                       .phase = "step 12, rank " + std::to_string(rank),
                       .attempts = {{.environment = {{"LD_PRELOAD", PLUMB_DISK_FAULTS},
                                                     {"PLUMB_CLOCK_JUMP",
                                                      std::to_string(rank) + ":" + std::to_string(seconds) + ":jump"}},
                                     .acts = [](const Place& place) { return std::vector<Act>{clock_jump(place)}; }}},
                       .max_detect_seconds = 0,
                       .needs_preload = true});
    }
  cases.push_back({.fault = "SIGUSR1 to one rank",
                   .phase = "step 13",
                   .attempts = {{.points = "step:13:3:usr1", .exit_code = 85, .named = "stopped after step 14"}},

                   .max_detect_seconds = 10,
                   .max_steps_lost = 0});
  cases.push_back(signal_to_launcher("SIGUSR1", SIGUSR1, 85, "stopped after step "));
  cases.push_back(signal_to_launcher("SIGTERM", SIGTERM, 1, ""));
  FaultCase async_stop = cases[cases.size() - 3];
  async_stop.is_async = true;
  async_stop.phase = "step 13, asynchronously";
  cases.push_back(async_stop);
  return cases;
}

std::vector<FaultCase> fault_cases() {
  std::vector<FaultCase> all;
  for (const auto& part : {kill_cases(), save_cases(), disk_cases(), other_cases()})
    all.insert(all.end(), part.begin(), part.end());
  return all;
}

}  // namespace plumb::test
