// A child process that gets lines and answers lines: without a shell, in a session, process group and directory of its
// own, without plumb's descriptors and environment, with limits. It dies with the thread that started it.
// Source: vfork(2), prctl(2), setrlimit(2).
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace plumb {

struct ChildOptions {
  std::vector<std::string> command;  // a name with a slash, or one to be found in PATH
  std::string log_path;              // standard error is appended to this file
  int64_t max_memory_mb = 0;         // of address space; 0: no limit
};

class ChildProcess {
 public:
  /// Starts it. Words of the command that name a file in the current directory become absolute paths, since the child
  /// has another directory. Throws UsageError if the program cannot be started, InputOutputError if the system refuses.
  explicit ChildProcess(const ChildOptions& options);
  /// Ends it and everything in its process group: closes its input, waits half a second, kills.
  ~ChildProcess();
  ChildProcess(const ChildProcess&) = delete;
  ChildProcess& operator=(const ChildProcess&) = delete;

  /// Text to be written; wait() does it.
  void send(const std::string& line);

  enum class Event { kLine, kEnded, kTooLong, kTimeout };
  /// Writes what is to be written until a line has arrived (without its end, in line()), the program has closed its
  /// output, a line has become too long, or the time, of the steady clock, has come.
  Event wait(double deadline_seconds);
  const std::string& line() const { return line_; }
  /// Whether it runs, and nothing has arrived that no one waited for. Does not block.
  bool is_ready();
  bool has_unread() const { return !incoming_.empty(); }

  /// For a message about a program that has ended: "exit code 1", "signal 9".
  std::string how_it_ended();

  static constexpr size_t kMaxLineBytes = 64 << 10;

 private:
  void start(const ChildOptions& options);
  bool take_line();
  bool read_some();
  void write_some();
  void remove_directory();

  pid_t process_ = -1;
  int to_child_ = -1, from_child_ = -1;
  std::string directory_;  // of its own, removed at the end, or after a kill by the next of these
  int lock_ = -1;          // on it
  std::string outgoing_, incoming_, line_;
  bool has_ended_ = false;  // its output
  std::optional<int> status_;
};

}  // namespace plumb
