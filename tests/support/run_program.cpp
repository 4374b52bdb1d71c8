#include "tests/support/run_program.hpp"

#include <fcntl.h>
#include <linux/capability.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <stdexcept>
#include <string_view>
#include <thread>

#include "apps/commands/command_line.hpp"
#include "lib/base/end_process.hpp"

extern char** environ;

namespace plumb::test {

namespace {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

/// An anonymous file: unlike a pipe it never fills up, so no reader is needed while the program runs.
class MemoryFile {
 public:
  explicit MemoryFile(const char* name) : descriptor_(::memfd_create(name, MFD_CLOEXEC)) {
    if (descriptor_ < 0) throw std::runtime_error(std::string("memfd_create: ") + std::strerror(errno));
  }
  ~MemoryFile() { ::close(descriptor_); }
  MemoryFile(const MemoryFile&) = delete;
  MemoryFile& operator=(const MemoryFile&) = delete;

  int descriptor() const { return descriptor_; }
  void append_only() const { ::fcntl(descriptor_, F_SETFL, O_APPEND); }
  void fill(std::string_view text) const {
    while (!text.empty()) {
      const ssize_t n = ::write(descriptor_, text.data(), text.size());
      if (n <= 0) throw std::runtime_error("cannot write the standard input of a program");
      text.remove_prefix(n);
    }
    ::lseek(descriptor_, 0, SEEK_SET);
  }
  std::string content(size_t from = 0) const {
    struct stat status = {};
    ::fstat(descriptor_, &status);
    std::string text(static_cast<size_t>(status.st_size) - from, '\0');
    const ssize_t n = ::pread(descriptor_, text.data(), text.size(), static_cast<off_t>(from));
    text.resize(n < 0 ? 0 : n);
    return text;
  }

 private:
  int descriptor_;
};

std::vector<char*> pointers_to(std::vector<std::string>& strings) {
  std::vector<char*> pointers;
  for (std::string& text : strings) pointers.push_back(text.data());
  pointers.push_back(nullptr);
  return pointers;
}

std::vector<std::string> merged_environment(const std::map<std::string, std::string>& changes) {
  std::vector<std::string> merged;
  for (char** entry = environ; *entry != nullptr; ++entry) {
    const std::string_view text = *entry;
    if (!changes.contains(std::string(text.substr(0, text.find('='))))) merged.emplace_back(text);
  }
  for (const auto& [name, value] : changes) merged.push_back(name + "=" + value);
  return merged;
}

/// Waits until the process ends or the deadline passes; true if it ended.
bool wait_until(pid_t process, int& status, Clock::time_point deadline) {
  for (;;) {
    if (::waitpid(process, &status, WNOHANG) == process) return true;
    if (Clock::now() >= deadline) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
}

double monotonic_seconds(Clock::time_point time) {
  return std::chrono::duration<double>(time.time_since_epoch()).count();
}

/// Sends SIGTERM first, so that mpirun can end its ranks, then SIGKILL.
void end_process(pid_t process, int& status) {
  ::kill(process, SIGTERM);
  if (wait_until(process, status, Clock::now() + std::chrono::seconds(5))) return;
  ::kill(process, SIGKILL);
  ::waitpid(process, &status, 0);
}

/// Separates the ranks' output from what mpirun prints about a failed job: a box of dashes with text in it, into which
/// lines of the ranks may fall, and message counts.
void split_launcher_lines(RunResult& result) {
  std::istringstream lines(result.err);
  result.err.clear();
  std::string line;
  bool is_in_box = false;
  while (std::getline(lines, line)) {
    const bool is_edge = line.size() > 60 && line.find_first_not_of('-') == std::string::npos;
    if (is_edge) is_in_box = !is_in_box;
    const bool is_count = line.starts_with('[') && (line.find("have sent help message") != std::string::npos ||
                                                    line.find("orte_base_help_aggregate") != std::string::npos);
    const bool is_from_launcher = is_edge || is_count || (is_in_box && !line.starts_with("plumb:"));
    (is_from_launcher ? result.launcher : result.err) += line + "\n";
  }
}

/// Without mpirun, Open MPI starts a daemon that outlives the program briefly and then removes its files.
void wait_for_launcher_files(const std::string& temporary) {
  const auto deadline = Clock::now() + std::chrono::seconds(5);
  const auto is_of_launcher = [](const fs::directory_entry& entry) {
    return entry.path().filename().string().starts_with("ompi.");
  };
  const auto are_there = [&] {
    const fs::directory_iterator all(temporary);
    return std::any_of(begin(all), end(all), is_of_launcher);
  };
  while (are_there() && Clock::now() < deadline) std::this_thread::sleep_for(std::chrono::milliseconds(5));
}

/// Starts a process that ends in become(), and waits for it. name: for the message that it could not be started.
RunResult run_process(const std::string& name, const RunOptions& options, const std::function<void()>& become) {
  const MemoryFile in("stdin"), out("stdout"), err("stderr");
  in.fill(options.standard_input);
  out.append_only();
  err.append_only();

  const auto start = Clock::now();
  std::fflush(nullptr);
  const pid_t process = ::fork();
  if (process < 0) throw std::runtime_error(std::string("fork: ") + std::strerror(errno));
  if (process == 0) {
    ::prctl(PR_SET_PDEATHSIG, SIGTERM);
    if (options.obeys_permissions)
      for (const int capability : {CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH}) ::prctl(PR_CAPBSET_DROP, capability);
    ::setpgid(0, 0);
    ::dup2(in.descriptor(), STDIN_FILENO);
    ::dup2(out.descriptor(), STDOUT_FILENO);
    ::dup2(err.descriptor(), STDERR_FILENO);
    if (options.working_directory.empty() || ::chdir(options.working_directory.c_str()) == 0) become();
    ::_exit(127);
  }

  RunResult result;
  int status = 0;
  const auto deadline = start + std::chrono::duration_cast<Clock::duration>(
                                    std::chrono::duration<double>(options.timeout_seconds * kPatience));
  bool has_ended = false;
  const auto wait_for_text = [&](const std::string& text) {
    size_t begin = 0;  // start of the part that may contain the text
    const auto is_there = [&] {
      const std::string news = err.content(begin);
      begin += news.size() - std::min(news.size(), text.size());
      return news.find(text) != std::string::npos;
    };
    while (!has_ended && Clock::now() < deadline && !is_there())
      has_ended = wait_until(process, status, Clock::now() + std::chrono::milliseconds(2));
    return !has_ended;
  };
  if (!options.interrupt_after.empty() && wait_for_text(options.interrupt_after))
    ::kill(process, options.interrupt_signal);
  if (!options.kill_ranks_after.empty() && wait_for_text(options.kill_ranks_after))
    for (const pid_t rank : children_of(process)) ::kill(rank, SIGKILL);
  for (const Act& act : options.acts) {
    if (!wait_for_text(act.after)) break;
    const auto delay = std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(act.delay_seconds));
    has_ended = wait_until(process, status, std::min(deadline, Clock::now() + delay));
    if (has_ended) break;
    result.acted_at = monotonic_seconds(Clock::now());
    act.act(process);
  }
  if (!has_ended) has_ended = wait_until(process, status, deadline);
  if (!has_ended) {
    result.has_timed_out = true;
    end_process(process, status);
  }
  result.ended_at = monotonic_seconds(Clock::now());
  result.seconds = seconds_since(start);
  result.exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  result.out = out.content();
  result.err = err.content();
  if (result.exit_code == 127 && result.err.empty()) throw std::runtime_error(name + ": cannot be started");
  return result;
}

/// Whether the test only waits for the program.
bool is_undisturbed(const RunOptions& options) {
  return options.environment.empty() && options.interrupt_after.empty() && options.kill_ranks_after.empty() &&
         options.acts.empty() && !options.obeys_permissions;
}

}  // namespace

RunResult run_program(const std::vector<std::string>& argv, const RunOptions& options) {
  std::vector<std::string> arguments = argv, environment = merged_environment(options.environment);
  const std::vector<char*> argument_pointers = pointers_to(arguments), environment_pointers = pointers_to(environment);
  return run_process(argv[0], options,
                     [&] { ::execvpe(argument_pointers[0], argument_pointers.data(), environment_pointers.data()); });
}

RunResult run_plumb(int num_ranks, const std::vector<std::string>& arguments, RunOptions options) {
  // A copy has loaded LibTorch, which takes 0.2 s of a start. What the program measures from its start counts from that
  // of the test. Not under a sanitizer, whose reports would be about the test.
  const bool is_copy = num_ranks <= 1 && is_undisturbed(options) && kPatience == 1;
  const bool has_launcher = num_ranks > 0 && !is_copy;
  const std::string temporary = options.working_directory + "/tmp";
  fs::create_directories(temporary);
  options.environment.insert({{"TMPDIR", temporary},
                              {"OMP_NUM_THREADS", "1"},
                              {"OMPI_ALLOW_RUN_AS_ROOT", "1"},
                              {"OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1"},
                              {"OMPI_MCA_rmaps_base_oversubscribe", "1"},
                              {"OMPI_MCA_btl_vader_single_copy_mechanism", "none"}});
  RunResult result;
  if (is_copy) {
    result = run_process("a copy of the test", options, [&]() noexcept {
      for (const auto& [name, value] : options.environment) ::setenv(name.c_str(), value.c_str(), 1);
      plumb::end_process(run_command_line(arguments));
    });
  } else {
    std::vector<std::string> argv;
    if (has_launcher) argv = {PLUMB_MPIEXEC, "-n", std::to_string(num_ranks), "--bind-to", "none"};
    argv.emplace_back(PLUMB_PROGRAM);
    argv.insert(argv.end(), arguments.begin(), arguments.end());
    result = run_program(argv, options);
    split_launcher_lines(result);
  }
  if (!has_launcher) wait_for_launcher_files(temporary);
  return result;
}

RunResult make_tiny_model(const std::string& directory) {
  return run_plumb(0,
                   {"init", "--output_dir", "model", "--hidden_size", "32", "--num_layers", "2", "--num_heads", "4",
                    "--num_kv_heads", "2", "--max_position_embeddings", "256"},
                   {.working_directory = directory});
}

std::vector<pid_t> children_of(pid_t parent) {
  std::vector<pid_t> children;
  for (const auto& entry : fs::directory_iterator("/proc")) {
    const std::string name = entry.path().filename().string();
    if (name.find_first_not_of("0123456789") != std::string::npos) continue;
    std::ostringstream status;
    status << std::ifstream(entry.path() / "status").rdbuf();
    if (status.str().find("\nPPid:\t" + std::to_string(parent) + "\n") != std::string::npos)
      children.push_back(static_cast<pid_t>(std::stol(name)));
  }
  return children;
}

int count_processes(const std::string& text) {
  int count = 0;
  for (const auto& entry : fs::directory_iterator("/proc")) {
    const std::string name = entry.path().filename().string();
    if (name.find_first_not_of("0123456789") != std::string::npos || name == std::to_string(::getpid())) continue;
    std::ostringstream command_line;
    command_line << std::ifstream(entry.path() / "cmdline", std::ios::binary).rdbuf();
    if (command_line.str().find(text) != std::string::npos) ++count;
  }
  return count;
}

std::vector<std::string> lines_with(const std::string& text, const std::string& part) {
  std::vector<std::string> found;
  std::istringstream lines(text);
  std::string line;
  while (std::getline(lines, line))
    if (line.find(part) != std::string::npos) found.push_back(line);
  return found;
}

}  // namespace plumb::test
