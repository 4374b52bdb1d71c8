#include "io/run_log.hpp"

#include "io/file.hpp"

namespace plumb {

MetricsLog::MetricsLog(const std::string& path)
    : path_(path), events_(parent_path(path)), file_(std::fopen(path.c_str(), "ae")) {
  if (!file_) throw_errno(path, "open");
}

MetricsLog::~MetricsLog() { std::fclose(file_); }

void MetricsLog::write(const nlohmann::ordered_json& metrics) {
  const std::string line = metrics.dump() + "\n";
  if (std::fwrite(line.data(), 1, line.size(), file_) != line.size() || std::fflush(file_) != 0)
    throw_errno(path_, "write");
  events_.write(metrics);
}

}  // namespace plumb
