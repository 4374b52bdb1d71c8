#include "io/run/lock.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <csignal>
#include <ctime>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <optional>
#include <sstream>
#include <utility>

#include "io/file/file.hpp"
#include "io/file/json_tolerant.hpp"
#include "io/run/launcher_files.hpp"
#include "io/run/process_identity.hpp"
#include "lib/base/check.hpp"
#include "lib/base/log.hpp"

namespace plumb {

namespace {

namespace fs = std::filesystem;

constexpr int64_t kMaxLockBytes = 4096;
constexpr double kHeartbeatsToWait = 3.5;
constexpr int kMaxTries = 20;

/// The contents of a lock file, whether its owner is alive or not.
struct LockFile {
  std::string text;
  timespec modified = {};
  nlohmann::ordered_json owner;  // discarded value if the text is not complete
};

bool operator==(const timespec& a, const timespec& b) { return a.tv_sec == b.tv_sec && a.tv_nsec == b.tv_nsec; }

/// Returns nullopt if the lock is gone. Opening the file makes a network file system refresh its attributes.
std::optional<LockFile> read_lock(const std::string& path) {
  const int descriptor = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (descriptor < 0) {
    if (errno == ENOENT) return std::nullopt;
    throw_errno(path, "open");
  }
  LockFile lock;
  struct stat status = {};
  ::fstat(descriptor, &status);
  lock.modified = status.st_mtim;
  lock.text.resize(kMaxLockBytes);
  const ssize_t size = ::read(descriptor, lock.text.data(), lock.text.size());
  ::close(descriptor);
  lock.text.resize(std::max<ssize_t>(size, 0));
  lock.owner = nlohmann::ordered_json::parse(lock.text, nullptr, /*allow_exceptions=*/false);
  return lock;
}

ProcessIdentity owner_of(const LockFile& lock) { return process_identity_from(lock.owner); }

std::string describe(const LockFile& lock) {
  const ProcessIdentity owner = owner_of(lock);
  if (owner.pid == 0) return "an unnamed job";
  return fmt::format("process {} on {}{}, since {}", owner.pid, owner.host,
                     owner.job.empty() ? "" : " (job " + owner.job + ")", owner.since);
}

/// Waits for several heartbeats; true as soon as the heartbeat moves or the lock changes or disappears.
bool shows_heartbeat(const std::string& path, const LockFile& lock, double heartbeat_seconds) {
  log_info("{}: locked by {}; checking its heartbeat for up to {:.0f} s", path, describe(lock),
           kHeartbeatsToWait * heartbeat_seconds);
  constexpr int kPolls = 35;
  for (int poll = 0; poll < kPolls; ++poll) {
    std::this_thread::sleep_for(std::chrono::duration<double>(kHeartbeatsToWait * heartbeat_seconds / kPolls));
    const std::optional<LockFile> now = read_lock(path);
    if (!now || now->text != lock.text || !(now->modified == lock.modified)) return true;
  }
  return false;
}

/// Removes a stale lock by renaming it aside. If another job did so first and the renamed file is its new lock, the
/// file is linked back.
void remove_stale(const std::string& path, const LockFile& lock) {
  const std::string aside = fmt::format("{}.stale-{}", path, ::getpid());
  if (::rename(path.c_str(), aside.c_str()) != 0) {
    if (errno == ENOENT) return;
    throw_errno(path, "rename");
  }
  const std::optional<LockFile> moved = read_lock(aside);
  if (moved && moved->text != lock.text && ::link(aside.c_str(), path.c_str()) != 0)
    log_warning("{}: two jobs took over a lock at the same time", path);
  ::unlink(aside.c_str());
}

/// Returns false if the path exists.
bool create_lock(const std::string& path, const std::string& text) {
  const int descriptor = ::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
  if (descriptor < 0) {
    if (errno == EEXIST) return false;
    throw_errno(path, "create");
  }
  const bool is_written = ::write(descriptor, text.data(), text.size()) == std::ssize(text);
  const int error = errno;
  ::close(descriptor);
  if (is_written) return true;
  ::unlink(path.c_str());
  errno = error;
  throw_errno(path, "write");
}

}  // namespace

bool is_run_locked(const std::string& directory) {
  const std::optional<LockFile> lock = read_lock(join_path(directory, kRunLockName));
  if (!lock) return false;
  const Life life = life_of(owner_of(*lock), this_process());
  constexpr int64_t kFreshSeconds = 60;
  return life == Life::kAlive || (life == Life::kUnknown && std::time(nullptr) - lock->modified.tv_sec < kFreshSeconds);
}

RunLock::RunLock(const std::string& directory, double heartbeat_seconds) : path_(join_path(directory, kRunLockName)) {
  std::error_code error;
  fs::create_directories(directory, error);
  if (error) throw_error<InputOutputError>("--output_dir {}: cannot be created: {}", directory, error.message());
  const ProcessIdentity me = this_process();
  nlohmann::ordered_json text = to_json(me);
  text["launched"] = to_json(this_launcher_job());
  text_ = text.dump() + "\n";
  for (int tries = 0; !create_lock(path_, text_); ++tries) {
    const std::optional<LockFile> lock = read_lock(path_);
    if (!lock) continue;  // released in the meantime
    const Life life = life_of(owner_of(*lock), me);
    const bool lives =
        life == Life::kAlive || (life == Life::kUnknown && shows_heartbeat(path_, *lock, heartbeat_seconds));
    if (lives && is_regular_file(path_))
      throw_error<UsageError>(
          "--output_dir {}: {} writes to it; wait until it has ended, or choose another directory (the lock is {})",
          directory, describe(*lock), path_);
    if (!lives) {
      log_info("{}: taken over from {}, which has ended", path_, describe(*lock));
      remove_stale(path_, *lock);
      remove_launcher_files(launcher_job_from(get_or_null(lock->owner, "launched")));
    }
    if (tries == kMaxTries) throw_error<InputOutputError>("{}: cannot be taken over from {}", path_, describe(*lock));
  }
  remove_files_of_dead_launchers();
  heartbeat_ = std::thread([this, heartbeat_seconds] { renew_until_released(heartbeat_seconds); });
}

void RunLock::renew_until_released(double heartbeat_seconds) const {
  std::unique_lock lock(mutex_);
  while (!is_released_changed_.wait_for(lock, std::chrono::duration<double>(heartbeat_seconds),
                                        [&] { return is_released_; }))
    ::utimensat(AT_FDCWD, path_.c_str(), nullptr, 0);  // on failure another job misses heartbeats
}

RunLock::~RunLock() {
  {
    const std::lock_guard lock(mutex_);
    is_released_ = true;
  }
  is_released_changed_.notify_all();
  heartbeat_.join();
  std::error_code ignored;
  std::ifstream file(path_);
  std::stringstream text;
  text << file.rdbuf();
  if (text.str() == text_) fs::remove(path_, ignored);
}

}  // namespace plumb
