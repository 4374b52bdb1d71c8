// Starts a program without a shell and waits for it. run_plumb() adds what every start of plumb needs: a TMPDIR of its
// own, and Open MPI's permission to run as root and with more ranks than cores.
#pragma once

#include <sys/types.h>

#include <functional>
#include <map>
#include <string>
#include <vector>

namespace plumb::test {

/// Factor for all time limits: 1, or more if a sanitizer makes programs slow.
inline constexpr int kPatience = PLUMB_TEST_PATIENCE;

/// An action on a program while it runs.
struct Act {
  std::string after = {};    // runs when standard error contains this text, immediately if empty
  double delay_seconds = 0;  // after that
  std::function<void(pid_t program)> act = {};
};

struct RunOptions {
  std::map<std::string, std::string> environment = {};  // added to the environment of the test
  std::string standard_input = {};
  std::string working_directory = {};  // empty: that of the test
  double timeout_seconds = 120;        // times kPatience; then the program is killed
  std::string interrupt_after = {};    // sends SIGINT once when standard error contains this text
  int interrupt_signal = 2;            // sent instead of SIGINT
  std::string kill_ranks_after = {};   // kills all child processes when standard error contains this text
  std::vector<Act> acts = {};          // in order, while it runs
  bool obeys_permissions = false;      // file permissions apply to root, too
};

struct RunResult {
  int exit_code = -1;  // 128 + signal if killed, as in a shell
  bool has_timed_out = false;
  double seconds = 0;
  double acted_at = 0, ended_at = 0;  // seconds of the monotonic clock: before the last act (0 if none), and at the end
  std::string out, err;
  std::string launcher;  // lines of mpirun, which run_plumb() removes from err
};

/// argv[0] is searched for in PATH. Throws std::runtime_error if it cannot be started.
RunResult run_program(const std::vector<std::string>& argv, const RunOptions& options = {});

/// Runs plumb on num_ranks ranks under mpirun, or directly if 0; one rank is a copy (fork) of the test if nothing is
/// done to it. Temporary files go to working_directory/tmp, which is created; lines of mpirun move from err to
/// launcher.
RunResult run_plumb(int num_ranks, const std::vector<std::string>& arguments, RunOptions options);

/// Creates directory/model: two layers of width 32, a byte tokenizer, and random weights, the same for every call.
RunResult make_tiny_model(const std::string& directory);

/// Processes whose parent is this process id.
std::vector<pid_t> children_of(pid_t parent);

/// Number of other processes whose command line contains the text.
int count_processes(const std::string& text);

/// The lines of a text that contain `part`.
std::vector<std::string> lines_with(const std::string& text, const std::string& part);

}  // namespace plumb::test
