// The machine-readable log of a running job: metrics.jsonl, one object per logged step, and TensorBoard events with the
// same numbers next to it. Rank 0 only.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "io/file/appended_file.hpp"
#include "io/run/tensorboard.hpp"

namespace plumb {

/// Removes all event files, because TensorBoard would draw those of two runs as one.
void remove_event_files(const std::string& directory);

class MetricsLog {
 public:
  /// Appends to `path` and creates an event file in its directory. Throws InputOutputError.
  explicit MetricsLog(const std::string& path) : MetricsLog(path, std::vector<nlohmann::ordered_json>()) {}
  /// Resumes after `last_step`: removes lines of later steps and an incomplete last line, and replaces the event files
  /// of the directory with one that contains the remaining lines.
  MetricsLog(const std::string& path, int64_t last_step);

  /// Writes one line, readable by others when this returns unless the disk is full. Keys keep their order.
  void write(const nlohmann::ordered_json& metrics);

  /// Fsyncs all lines. Throws InputOutputError.
  void sync();

 private:
  MetricsLog(const std::string& path, const std::vector<nlohmann::ordered_json>& lines);

  EventFile events_;
  AppendedFile file_;
};

}  // namespace plumb
