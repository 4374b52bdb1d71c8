// What a run writes for machines while it goes on: metrics.jsonl, one object per logged step, and the same numbers as
// TensorBoard events beside it. Rank 0 only.
#pragma once

#include <cstdint>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "io/run/tensorboard.hpp"

namespace plumb {

/// TensorBoard would draw those of two runs as one.
void remove_event_files(const std::string& directory);

class MetricsLog {
 public:
  /// Appends to `path` and makes an event file in its directory; throws InputOutputError.
  explicit MetricsLog(const std::string& path) : MetricsLog(path, std::vector<nlohmann::ordered_json>()) {}
  /// Goes on after `last_step`: lines of later steps, and one that was cut off, are removed; the event files of the
  /// directory make way for one with the lines that stay.
  MetricsLog(const std::string& path, int64_t last_step);
  ~MetricsLog();
  MetricsLog(const MetricsLog&) = delete;
  MetricsLog& operator=(const MetricsLog&) = delete;

  /// One line, readable by others when this returns. Keys keep their order.
  void write(const nlohmann::ordered_json& metrics);

  /// Returns after all lines are on the device.
  void sync() const;

 private:
  MetricsLog(const std::string& path, const std::vector<nlohmann::ordered_json>& lines);

  std::string path_;
  EventFile events_;
  std::FILE* file_;
};

}  // namespace plumb
