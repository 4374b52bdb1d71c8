// Starts a program and waits for it, without a shell. run_plumb adds what every start of plumb needs: a TMPDIR of its
// own, and Open MPI's permission to run as root and with more ranks than cores.
#pragma once

#include <sys/types.h>

#include <functional>
#include <map>
#include <string>
#include <vector>

namespace plumb::test {

/// Limits on time are multiplied by it: 1, or more where a sanitizer slows everything down.
inline constexpr int kPatience = PLUMB_TEST_PATIENCE;

/// An action on a program while it runs.
struct Act {
  std::string after = {};    // comes when standard error holds this text, at once if it is empty
  double delay_seconds = 0;  // and then so long
  std::function<void(pid_t program)> act = {};
};

struct RunOptions {
  std::map<std::string, std::string> environment = {};  // over that of the test
  std::string standard_input = {};
  std::string working_directory = {};  // "": that of the test
  double timeout_seconds = 120;        // times kPatience: then the program is killed
  std::string interrupt_after = {};    // SIGINT, once, when standard error holds this text
  int interrupt_signal = 2;            // instead of SIGINT
  std::string kill_ranks_after = {};   // SIGKILL to all that the program started, when standard error holds this text
  std::vector<Act> acts = {};          // one after the other, while it runs
  bool obeys_permissions = false;      // root too is refused files that their mode closes to it
};

struct RunResult {
  int exit_code = -1;  // 128 + signal, as a shell has it
  bool has_timed_out = false;
  double seconds = 0;
  double acted_at = 0, ended_at = 0;  // seconds of the monotonic clock: before the last act; 0 if none came
  std::string out, err;
  std::string launcher;  // what run_plumb took out of err
};

/// argv[0] is looked up in PATH. Throws std::runtime_error where it cannot be started.
RunResult run_program(const std::vector<std::string>& argv, const RunOptions& options = {});

/// plumb with these arguments: num_ranks of it under mpirun, or for 0 itself. Its temporary files go to
/// working_directory/tmp, which this makes. Lines that mpirun adds are moved from the result's err to launcher.
RunResult run_plumb(int num_ranks, const std::vector<std::string>& arguments, RunOptions options);

/// Makes directory/model: two layers of width 32, a tokenizer of bytes, random weights, the same for every call.
RunResult make_tiny_model(const std::string& directory);

std::vector<pid_t> children_of(pid_t parent);

/// Processes, besides this one, whose command line holds the text.
int count_processes(const std::string& text);

/// The lines of a text that hold `part`.
std::vector<std::string> lines_with(const std::string& text, const std::string& part);

}  // namespace plumb::test
