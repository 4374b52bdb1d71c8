// Rewrites report.html during a run, so that an open page, which reloads itself, follows it. Takes at most a hundredth
// of the time of the run.
#pragma once

#include <chrono>
#include <string>

namespace plumb {

class LiveReport {
 public:
  static constexpr std::chrono::seconds kInterval{30};

  /// Reports on the stage or, if its directory is in that of a pipeline, on the pipeline. The first report is due after
  /// `interval`.
  explicit LiveReport(const std::string& stage_directory, std::chrono::steady_clock::duration interval = kInterval);

  /// Rank 0 only: writes the report if it is due. If it cannot be written, logs one warning and writes none from then
  /// on.
  void refresh();

 private:
  using Clock = std::chrono::steady_clock;
  std::string directory_;
  Clock::duration interval_;
  Clock::time_point due_at_;
  bool has_failed_ = false;
};

}  // namespace plumb
