// What a run writes for machines while it goes on: metrics.jsonl, one object per logged step, and the same numbers as
// TensorBoard events beside it. Rank 0 only.
#pragma once

#include <cstdio>
#include <nlohmann/json.hpp>
#include <string>

#include "io/tensorboard.hpp"

namespace plumb {

class MetricsLog {
 public:
  /// Appends to `path` and makes an event file in its directory; throws InputOutputError.
  explicit MetricsLog(const std::string& path);
  ~MetricsLog();
  MetricsLog(const MetricsLog&) = delete;
  MetricsLog& operator=(const MetricsLog&) = delete;

  /// One line, readable by others when this returns. Keys keep their order.
  void write(const nlohmann::ordered_json& metrics);

 private:
  std::string path_;
  EventFile events_;
  std::FILE* file_;
};

}  // namespace plumb
