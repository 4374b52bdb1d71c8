#include "io/run/status.hpp"

#include <chrono>
#include <nlohmann/json.hpp>

#include "io/file/atomic_file.hpp"
#include "io/file/file.hpp"
#include "io/file/json_tolerant.hpp"
#include "lib/base/activity.hpp"
#include "lib/base/check.hpp"
#include "lib/base/log.hpp"

namespace plumb {

namespace {

constexpr int64_t kMaxStatusBytes = 1 << 20;

}  // namespace

nlohmann::ordered_json to_json(const RunStatus& s) {
  return {{"command", s.command},
          {"state", s.state},
          {"message", s.message},
          {"ranks", s.num_ranks},
          {"step", s.step},
          {"num_steps", s.num_steps},
          {"loss", s.loss},
          {"tokens_per_second", s.tokens_per_second},
          {"step_seconds", s.step_seconds},
          {"seconds_left", s.seconds_left},
          {"memory_bytes", s.memory_bytes},
          {"checkpoint", s.checkpoint},
          {"save_seconds", s.save_seconds},
          {"slow_ranks", s.slow_ranks},
          {"step_time", s.step_time},
          {"heartbeat", s.heartbeat},
          {"process", to_json(s.process)}};
}

std::optional<RunStatus> read_run_status(const std::string& directory) {
  const std::string path = join_path(directory, kStatusFileName);
  if (!is_regular_file(path)) return std::nullopt;
  const auto json = OrderedJson::parse(read_text_file(path, kMaxStatusBytes), nullptr, /*allow_exceptions=*/false);
  if (get_text(json, "state").empty())
    throw_error<DataError>("{}: expected the status of a run, got something else", path);
  const auto number = [&](const char* key) { return get_number(json, key).value_or(0); };
  return RunStatus{.command = get_text(json, "command"),
                   .state = get_text(json, "state"),
                   .message = get_text(json, "message"),
                   .num_ranks = static_cast<int>(get_count(json, "ranks")),
                   .step = get_count(json, "step"),
                   .num_steps = get_count(json, "num_steps"),
                   .loss = number("loss"),
                   .tokens_per_second = number("tokens_per_second"),
                   .step_seconds = number("step_seconds"),
                   .seconds_left = number("seconds_left"),
                   .memory_bytes = get_count(json, "memory_bytes"),
                   .checkpoint = get_text(json, "checkpoint"),
                   .save_seconds = number("save_seconds"),
                   .slow_ranks = get_text(json, "slow_ranks"),
                   .step_time = number("step_time"),
                   .heartbeat = number("heartbeat"),
                   .process = process_identity_from(get_or_null(json, "process"))};
}

RunStatusWriter::RunStatusWriter(const std::string& directory, const RunStatus& status, double interval_seconds)
    : path_(join_path(directory, kStatusFileName)), status_(status) {
  writer_ = std::thread([this, interval_seconds] { write_periodically(interval_seconds); });
}

RunStatusWriter::~RunStatusWriter() {
  {
    const std::lock_guard lock(mutex_);
    if (status_.state == "running") status_.state = "failed";
    is_over_ = true;
  }
  is_over_changed_.notify_all();
  writer_.join();
}

void RunStatusWriter::update(const std::function<void(RunStatus&)>& change) {
  const std::lock_guard lock(mutex_);
  change(status_);
}

void RunStatusWriter::end(const std::string& state, const std::string& message) {
  update([&](RunStatus& s) {
    s.state = state;
    s.message = message;
  });
}

void RunStatusWriter::write_periodically(double interval_seconds) {
  leave_thread_unwatched();  // a job that hangs still writes its status
  std::unique_lock lock(mutex_);
  bool has_warned = false;
  for (bool is_last = false;; is_last = is_over_) {
    status_.heartbeat = wall_seconds();
    const std::string text = to_json(status_).dump(2, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
    lock.unlock();
    try {
      write_file_atomically(path_, text + "\n");
    } catch (const std::exception& error) {
      if (!has_warned) log_warning("{}; the run continues", error.what());
      has_warned = true;
    }
    lock.lock();
    if (is_last) return;
    is_over_changed_.wait_for(lock, std::chrono::duration<double>(interval_seconds), [&] { return is_over_; });
  }
}

}  // namespace plumb
