#include "apps/rewards/child_process.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <thread>
#include <utility>

#include "lib/base/check.hpp"
#include "lib/base/clock.hpp"

namespace plumb {

namespace {

namespace fs = std::filesystem;

constexpr rlim_t kMaxFileBytes = rlim_t{1} << 30, kMaxDescriptors = 256;

[[noreturn]] void throw_system(const std::string& what) {
  throw_error<InputOutputError>("{}: {}", what, std::strerror(errno));
}

bool is_file(const std::string& path) {
  std::error_code ignored;
  return fs::is_regular_file(path, ignored);
}

/// The command with files of the current directory as absolute paths, and its program found in PATH.
std::vector<std::string> resolved(std::vector<std::string> words) {
  for (std::string& word : words)
    if (!word.empty() && word[0] != '/' && (&word != &words[0] || word.find('/') != std::string::npos) && is_file(word))
      word = fs::absolute(word).lexically_normal();
  std::string& program = words[0];
  if (program.find('/') == std::string::npos) {
    const char* path = std::getenv("PATH");
    const std::string directories = path ? path : "/usr/local/bin:/usr/bin:/bin";
    for (size_t begin = 0; begin <= directories.size();) {
      const size_t end = std::min(directories.find(':', begin), directories.size());
      const std::string candidate = directories.substr(begin, end - begin) + "/" + program;
      if (end > begin && is_file(candidate) && ::access(candidate.c_str(), X_OK) == 0) {
        program = candidate;
        break;
      }
      begin = end + 1;
    }
  }
  if (!is_file(program) || ::access(program.c_str(), X_OK) != 0)
    throw_error<UsageError>("{}: no program of this name that may be run; give its path, or one in PATH", program);
  return words;
}

/// The variables that a program needs, and none that may be a secret.
std::vector<std::string> environment(const std::string& directory) {
  std::vector<std::string> variables = {"HOME=" + directory, "TMPDIR=" + directory, "OMP_NUM_THREADS=1"};
  for (const char* name : {"PATH", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "LD_LIBRARY_PATH", "PYTHONPATH", "PYTHONHOME",
                           "VIRTUAL_ENV", "CONDA_PREFIX"})
    if (const char* value = std::getenv(name)) variables.push_back(std::string(name) + "=" + value);
  return variables;
}

std::vector<char*> pointers_to(std::vector<std::string>& words) {
  std::vector<char*> pointers;
  for (std::string& word : words) pointers.push_back(word.data());
  pointers.push_back(nullptr);
  return pointers;
}

/// All that the child needs, prepared before it exists.
struct Launch {
  char** command;
  char** environment;
  const char* directory;
  int input, output, log;
  rlim_t max_memory_bytes;  // 0: no limit
  pid_t parent;
};

/// Runs in the child, in the memory of the parent, which waits: system calls only. Returns if it could not start.
void become(const Launch& launch) {
  ::setsid();
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (::getppid() != launch.parent) return;
  ::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
  const auto limit = [](auto resource, rlim_t value) {
    const rlimit both{value, value};
    ::setrlimit(resource, &both);
  };
  limit(RLIMIT_CORE, 0);
  limit(RLIMIT_FSIZE, kMaxFileBytes);
  limit(RLIMIT_NOFILE, kMaxDescriptors);
  if (launch.max_memory_bytes > 0) limit(RLIMIT_AS, launch.max_memory_bytes);
  ::umask(077);
  if (::dup2(launch.input, 0) < 0 || ::dup2(launch.output, 1) < 0 || ::dup2(launch.log, 2) < 0) return;
  ::syscall(SYS_close_range, 3u, ~0u, 0u);  // an older kernel: all of plumb's own close when the program starts
  if (::chdir(launch.directory) != 0) return;
  sigset_t none;
  ::sigemptyset(&none);
  ::sigprocmask(SIG_SETMASK, &none, nullptr);
  ::execve(launch.command[0], launch.command, launch.environment);
}

/// vfork, so that neither page tables are copied nor memory that a network card uses is touched. Returns the process;
/// `error` is that of a program that could not be started.
pid_t start_child(const Launch& launch, int& error) {
  volatile int child_error = 0;
  const pid_t process = ::vfork();
  if (process == 0) {
    errno = 0;
    become(launch);
    child_error = errno == 0 ? ESRCH : errno;
    ::_exit(127);
  }
  error = child_error;
  return process;
}

class Descriptor {
 public:
  explicit Descriptor(int value) : value_(value) {}
  ~Descriptor() {
    if (value_ >= 0) ::close(value_);
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  int get() const { return value_; }
  int release() { return std::exchange(value_, -1); }

 private:
  int value_;
};

std::array<int, 2> make_pipe() {
  std::array<int, 2> ends{};
  if (::pipe2(ends.data(), O_CLOEXEC) != 0) throw_system("a pipe for the reward program");
  return ends;
}

/// Writing to a program that has ended must not end plumb.
ssize_t write_without_signal(int descriptor, const char* bytes, size_t count) {
  sigset_t pipe_signal, before;
  ::sigemptyset(&pipe_signal);
  ::sigaddset(&pipe_signal, SIGPIPE);
  ::pthread_sigmask(SIG_BLOCK, &pipe_signal, &before);
  const ssize_t written = ::write(descriptor, bytes, count);
  const int error = errno;
  if (written < 0 && error == EPIPE) {
    const timespec now{};
    ::sigtimedwait(&pipe_signal, nullptr, &now);
  }
  ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
  errno = error;
  return written;
}

}  // namespace

namespace {

constexpr const char *kDirectoryPrefix = "plumb-reward-", *kNewDirectoryPrefix = "plumb-reward-new-";

/// Removes the directories of processes that were killed: those that nobody holds a lock on.
void remove_stale_directories(const fs::path& parent) {
  std::error_code ignored;
  for (const fs::directory_entry& entry : fs::directory_iterator(parent, ignored)) {
    const std::string name = entry.path().filename();
    if (!name.starts_with(kDirectoryPrefix) || name.starts_with(kNewDirectoryPrefix)) continue;
    const Descriptor directory(::open(entry.path().c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
    if (directory.get() >= 0 && ::flock(directory.get(), LOCK_EX | LOCK_NB) == 0) fs::remove_all(entry.path(), ignored);
  }
}

/// Makes a directory and locks it, in which order no other process takes it for a stale one.
std::string make_locked_directory(const fs::path& parent, int& lock) {
  std::string made = parent / (std::string(kNewDirectoryPrefix) + "XXXXXX");
  if (::mkdtemp(made.data()) == nullptr) throw_system(made);
  Descriptor descriptor(::open(made.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (descriptor.get() < 0) throw_system(made);
  ::flock(descriptor.get(), LOCK_EX | LOCK_NB);  // where it fails, it fails for those who look for stale ones, too
  const std::string named = parent / (kDirectoryPrefix + made.substr(made.rfind('-') + 1));
  if (::rename(made.c_str(), named.c_str()) != 0) throw_system(named);
  lock = descriptor.release();
  return named;
}

}  // namespace

ChildProcess::ChildProcess(const ChildOptions& options) {
  remove_stale_directories(fs::temp_directory_path());
  directory_ = make_locked_directory(fs::temp_directory_path(), lock_);
  try {
    start(options);
  } catch (...) {
    remove_directory();
    throw;
  }
}

void ChildProcess::start(const ChildOptions& options) {
  std::vector<std::string> command = resolved(options.command), variables = environment(directory_);
  const std::vector<char*> arguments = pointers_to(command), pairs = pointers_to(variables);
  const std::array<int, 2> input = make_pipe();
  Descriptor child_input(input[0]), to_child(input[1]);
  const std::array<int, 2> output = make_pipe();
  Descriptor from_child(output[0]), child_output(output[1]);
  const Descriptor log(::open(options.log_path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644));
  if (log.get() < 0) throw_system(options.log_path);
  const Launch launch{.command = const_cast<char**>(arguments.data()),
                      .environment = const_cast<char**>(pairs.data()),
                      .directory = directory_.c_str(),
                      .input = child_input.get(),
                      .output = child_output.get(),
                      .log = log.get(),
                      .max_memory_bytes = static_cast<rlim_t>(options.max_memory_mb) << 20,
                      .parent = ::getpid()};
  sigset_t all, mask;  // no handler of plumb runs in the child, which has plumb's memory
  ::sigfillset(&all);
  ::pthread_sigmask(SIG_SETMASK, &all, &mask);
  int error = 0;
  process_ = start_child(launch, error);
  ::pthread_sigmask(SIG_SETMASK, &mask, nullptr);
  if (process_ < 0) throw_system("starting " + command[0]);
  if (error != 0) {
    ::waitpid(process_, nullptr, 0);
    throw_error<UsageError>("{}: cannot be started: {}", command[0], std::strerror(error));
  }
  to_child_ = to_child.release();
  from_child_ = from_child.release();
  for (const int descriptor : {to_child_, from_child_}) ::fcntl(descriptor, F_SETFL, O_NONBLOCK);
}

ChildProcess::~ChildProcess() {
  if (to_child_ >= 0) ::close(to_child_);
  const double deadline = steady_seconds() + 0.5;
  while (!status_ && !has_ended_ && steady_seconds() < deadline) {
    int status = 0;
    if (::waitpid(process_, &status, WNOHANG) == process_) status_ = status;
    if (!status_) std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
  ::kill(-process_, SIGKILL);  // its children too
  if (!status_) ::waitpid(process_, nullptr, 0);
  if (from_child_ >= 0) ::close(from_child_);
  remove_directory();
}

void ChildProcess::remove_directory() {
  std::error_code ignored;
  fs::remove_all(directory_, ignored);
  ::close(lock_);
}

void ChildProcess::send(const std::string& line) { outgoing_ += line + "\n"; }

bool ChildProcess::take_line() {
  const size_t end = incoming_.find('\n');
  if (end == std::string::npos) return false;
  line_ = incoming_.substr(0, end);
  incoming_.erase(0, end + 1);
  if (!line_.empty() && line_.back() == '\r') line_.pop_back();
  return true;
}

bool ChildProcess::read_some() {
  std::array<char, 16 << 10> bytes;
  const ssize_t count = ::read(from_child_, bytes.data(), bytes.size());
  if (count > 0) incoming_.append(bytes.data(), static_cast<size_t>(count));
  if (count == 0 || (count < 0 && errno != EAGAIN && errno != EINTR)) has_ended_ = true;
  return count > 0;
}

void ChildProcess::write_some() {
  const ssize_t count = write_without_signal(to_child_, outgoing_.data(), std::min<size_t>(outgoing_.size(), 64 << 10));
  if (count > 0) outgoing_.erase(0, static_cast<size_t>(count));
  if (count < 0 && errno == EPIPE) outgoing_.clear();  // it no longer reads; its answers may still come
}

ChildProcess::Event ChildProcess::wait(double deadline_seconds) {
  for (;;) {
    if (take_line()) return line_.size() > kMaxLineBytes ? Event::kTooLong : Event::kLine;
    if (incoming_.size() > kMaxLineBytes) return Event::kTooLong;
    if (has_ended_) return Event::kEnded;
    const double left = deadline_seconds - steady_seconds();
    if (left <= 0) return Event::kTimeout;
    std::array<pollfd, 2> polled = {pollfd{from_child_, POLLIN, 0},
                                    pollfd{outgoing_.empty() ? -1 : to_child_, POLLOUT, 0}};
    const int milliseconds = static_cast<int>(std::min(left * 1000 + 1, 1000.0));
    if (::poll(polled.data(), polled.size(), milliseconds) < 0 && errno != EINTR) throw_system("the reward program");
    if (polled[1].revents != 0) write_some();
    if (polled[0].revents != 0) read_some();
  }
}

bool ChildProcess::is_ready() {
  while (!has_ended_ && incoming_.size() <= kMaxLineBytes && read_some()) {
  }
  return !has_ended_ && incoming_.empty();
}

std::string ChildProcess::how_it_ended() {
  const double deadline = steady_seconds() + 0.5;
  while (!status_ && steady_seconds() < deadline) {
    int status = 0;
    if (::waitpid(process_, &status, WNOHANG) == process_) status_ = status;
    if (!status_) std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
  if (!status_) return "it closed its standard output and runs on";
  return WIFEXITED(*status_) ? fmt::format("exit code {}", WEXITSTATUS(*status_))
                             : fmt::format("signal {}", WTERMSIG(*status_));
}

}  // namespace plumb
