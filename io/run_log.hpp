// What a run writes for machines: metrics.jsonl, one object per logged step, and run.json. Rank 0 only.
#pragma once

#include <cstdio>
#include <nlohmann/json.hpp>
#include <string>

namespace plumb {

class MetricsLog {
 public:
  /// Appends to `path`; throws InputOutputError.
  explicit MetricsLog(const std::string& path);
  ~MetricsLog();
  MetricsLog(const MetricsLog&) = delete;
  MetricsLog& operator=(const MetricsLog&) = delete;

  /// One line, readable by others when this returns. Keys keep their order.
  void write(const nlohmann::ordered_json& metrics);

 private:
  std::string path_;
  std::FILE* file_;
};

}  // namespace plumb
