#include "partition/watchdog.hpp"

#include <execinfo.h>
#include <fmt/format.h>
#include <pthread.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <csignal>
#include <exception>
#include <new>
#include <string>
#include <string_view>

#include "lib/base/check.hpp"
#include "lib/base/process_state.hpp"
#include "partition/deadline.hpp"

namespace plumb {

namespace {

constexpr std::chrono::milliseconds kCheckInterval{500};
constexpr double kSilentSeconds = 1.5;  // without a check: the rank was suspended, and others count it as stopped
constexpr std::chrono::milliseconds kTimeForOtherReports{800};
constexpr int kMaxFrames = 48;

double seconds_since(int64_t since_ns) { return static_cast<double>(steady_now_ns() - since_ns) * 1e-9; }

/// Writes directly to the file descriptor, because the thread that hangs may hold the lock of the logger.
void write_error(std::string_view text) {
  while (!text.empty()) {
    const ssize_t n = ::write(STDERR_FILENO, text.data(), text.size());
    if (n <= 0) return;
    text.remove_prefix(n);
  }
}

int stack_signal() { return SIGRTMIN + 7; }

void print_stack(int) {
  std::array<void*, kMaxFrames> frames = {};
  ::backtrace_symbols_fd(frames.data(), ::backtrace(frames.data(), kMaxFrames), STDERR_FILENO);
}

std::string describe(const Operation& o) {
  std::string text = o.operation;
  if (o.unit >= 0) text += fmt::format(" of unit {}", o.unit);
  if (o.bytes >= 0) text += fmt::format(", {} bytes", o.bytes);
  return text;
}

}  // namespace

struct alignas(64) Watchdog::NodeState {
  std::atomic<int> is_job_ending;
};

Watchdog::Watchdog(const Communicator& comm, double limit_seconds)
    : limit_seconds_(limit_seconds),
      rank_(comm.rank()),
      node_begin_(comm.node_begin(comm.node())),
      num_ranks_(comm.node_size(comm.node())),
      spans_nodes_(comm.num_nodes() > 1),
      world_(comm.mpi()),
      main_thread_(::pthread_self()) {
  if (limit_seconds <= 0 || comm.size() == 1) return;
  process_state().run_limit_seconds = limit_seconds;  // for the Deadline of MPI_Finalize, after the watchdog has ended
  const int me = comm.local_index(rank_);
  memory_.emplace(comm, static_cast<int64_t>(sizeof(NodeState) + num_ranks_ * sizeof(ProcessProgress)));
  node_state_ = reinterpret_cast<NodeState*>(memory_->data());
  if (me == 0) new (node_state_) NodeState{};
  ProcessProgress* const mine = new (&progress_of(me)) ProcessProgress{};
  mine->pid.store(::getpid());
  mine->alive_ns.store(steady_now_ns());
  set_progress(mine);
  comm.barrier();

  std::array<void*, 1> frame = {};
  ::backtrace(frame.data(), 1);  // loads libgcc now, since a signal handler must not
  struct sigaction action = {};
  action.sa_handler = print_stack;
  action.sa_flags = SA_RESTART;
  ::sigaction(stack_signal(), &action, nullptr);
  thread_ = std::thread([this] { watch(); });
}

Watchdog::~Watchdog() {
  if (!node_state_) return;
  const bool is_normal_exit = std::uncaught_exceptions() == 0;
  if (is_normal_exit) {  // a rank that does not reach this barrier is still watched
    const WatchedOperation operation("the end of the run");
    MPI_Barrier(world_);
  }
  {
    const std::lock_guard lock(mutex_);
    is_over_ = true;
  }
  is_over_changed_.notify_all();
  thread_.join();
  set_progress(nullptr);
}

ProcessProgress& Watchdog::progress_of(int local_index) const {
  return reinterpret_cast<ProcessProgress*>(node_state_ + 1)[local_index];
}

uint64_t Watchdog::num_operations_of_node() const {
  uint64_t sum = 0;
  for (int i = 0; i < num_ranks_; ++i)
    sum += progress_of(i).num_operations.load() + progress_of(i).num_collectives.load();
  return sum;
}

void Watchdog::watch() {
  sigset_t all;
  ::sigfillset(&all);
  ::pthread_sigmask(SIG_BLOCK, &all, nullptr);  // the main thread handles signals
  ProcessProgress& mine = progress_of(rank_ - node_begin_);
  uint64_t num_operations = num_operations_of_node();
  int64_t last_check_ns = steady_now_ns(), last_progress_ns = last_check_ns;
  std::unique_lock lock(mutex_);
  while (!is_over_changed_.wait_for(lock, kCheckInterval, [this] { return is_over_; })) {
    const int64_t now_ns = steady_now_ns();
    mine.alive_ns.store(now_ns);
    const uint64_t num_operations_now = num_operations_of_node();
    const bool was_suspended = static_cast<double>(now_ns - last_check_ns) * 1e-9 > kSilentSeconds;
    if (num_operations_now != num_operations || was_suspended) last_progress_ns = now_ns;
    num_operations = num_operations_now;
    last_check_ns = now_ns;
    if (node_state_->is_job_ending.load() != 0) end_job({});
    if (seconds_since(last_progress_ns) <= limit_seconds_) continue;
    for (const Operation& operation : operations_under_way())
      if (seconds_since(operation.since_ns) > limit_seconds_) end_job(operation);
  }
}

bool Watchdog::is_behind() const {
  const uint64_t mine = progress_of(rank_ - node_begin_).num_collectives.load();
  for (int i = 0; i < num_ranks_; ++i)
    if (progress_of(i).num_collectives.load() > mine) return true;
  return false;
}

std::string Watchdog::describe_ranks_behind() const {
  const auto begun = [&](int i) { return progress_of(i).num_collectives.load(); };
  const auto silent_seconds = [&](int i) { return seconds_since(progress_of(i).alive_ns.load()); };
  const auto is_silent = [&](int i) { return silent_seconds(i) > kSilentSeconds; };
  uint64_t most = 0, fewest = UINT64_MAX;
  bool is_one_silent = false;  // if so, other ranks that are behind wait for it
  for (int i = 0; i < num_ranks_; ++i) {
    most = std::max(most, begun(i));
    fewest = std::min(fewest, begun(i));
    is_one_silent = is_one_silent || is_silent(i);
  }
  std::string text;
  for (int i = 0; i < num_ranks_; ++i) {
    if (is_one_silent ? !is_silent(i) : begun(i) == most || begun(i) > fewest) continue;
    text += fmt::format("{}rank {} (process {}) is behind: it has begun {} of {} collectives", text.empty() ? "" : "; ",
                        node_begin_ + i, progress_of(i).pid.load(), begun(i), most);
    if (is_silent(i))
      text += fmt::format(", and given no sign of life for {:.0f} s: stopped or killed", silent_seconds(i));
  }
  // if all ranks of this node are alive, one may be behind only because it waits for a rank on another node
  if (!text.empty()) return text + (spans_nodes_ && !is_one_silent ? ", or waits for one that is on another node" : "");
  return spans_nodes_ ? "all ranks of this node are in the same collective: the one behind is on another node"
                      : "all ranks are in the same collective: they wait for a file, or the network";
}

void Watchdog::end_job(const Operation& operation) {
  const bool is_first = node_state_->is_job_ending.exchange(1) == 0;
  const std::string me = fmt::format("plumb: [rank {}] watchdog: ", rank_);
  if (is_first && operation.operation) {
    write_error(fmt::format(
        "plumb: [rank {}] error: watchdog: waits for {} (collective {}) since {:.1f} s, over the limit of {} s "
        "(--watchdog_seconds); {}\n",
        rank_, describe(operation), operation.sequence, seconds_since(operation.since_ns), limit_seconds_,
        describe_ranks_behind()));
    std::string last;
    for (const Operation& o : last_operations())
      last += fmt::format("{}  {} (collective {}, ended {:.1f} s ago, took {:.3f} s)\n", me, describe(o), o.sequence,
                          seconds_since(o.since_ns + o.duration_ns), static_cast<double>(o.duration_ns) * 1e-9);
    write_error(me + "its last operations:\n" + last);
  }
  const bool reports_stack = is_first || is_behind();
  if (reports_stack) {
    const std::string phases = describe_phases();
    if (!phases.empty()) write_error(me + "phase: " + phases + "\n");
    write_error(me + (is_first ? "stack:\n" : "this rank is behind; stack:\n"));
    ::pthread_kill(main_thread_, stack_signal());
  }
  std::this_thread::sleep_for(reports_stack ? kTimeForOtherReports : kTimeForOtherReports / 2);
  ::_exit(kExitHang);
}

}  // namespace plumb
