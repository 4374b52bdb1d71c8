#include "io/run/metrics_log.hpp"

#include <filesystem>
#include <sstream>

#include "io/file/atomic_file.hpp"
#include "io/file/file.hpp"
#include "io/file/json_tolerant.hpp"

namespace plumb {

namespace {

constexpr int64_t kMaxLogBytes = int64_t{1} << 32;

/// Truncates the file to the lines up to a step, and returns them.
std::vector<nlohmann::ordered_json> rewind_lines(const std::string& path, int64_t last_step) {
  std::vector<nlohmann::ordered_json> lines;
  if (!is_regular_file(path)) return lines;
  std::istringstream text(read_text_file(path, kMaxLogBytes));
  std::string kept;
  for (std::string line; std::getline(text, line) && !text.eof();) {  // a last line without a newline is incomplete
    nlohmann::ordered_json object = nlohmann::ordered_json::parse(line, nullptr, /*allow_exceptions=*/false);
    if (!object.is_object() || get_count(object, "step") > last_step) continue;
    kept += line + "\n";
    lines.push_back(std::move(object));
  }
  write_file_atomically(path, kept);
  return lines;
}

}  // namespace

void remove_event_files(const std::string& directory) {
  std::vector<std::filesystem::path> events;
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(directory, error))
    if (entry.path().filename().string().starts_with("events.out.tfevents.")) events.push_back(entry.path());
  for (const auto& path : events) std::filesystem::remove(path, error);
}

MetricsLog::MetricsLog(const std::string& path, int64_t last_step)
    : MetricsLog(path, (remove_event_files(parent_path(path)), rewind_lines(path, last_step))) {}

MetricsLog::MetricsLog(const std::string& path, const std::vector<nlohmann::ordered_json>& lines)
    : events_(parent_path(path)), file_(path) {
  for (const nlohmann::ordered_json& line : lines) events_.write(line);
}

void MetricsLog::sync() { file_.sync(); }

void MetricsLog::write(const nlohmann::ordered_json& metrics) {
  file_.append(metrics.dump() + "\n");
  events_.write(metrics);
}

}  // namespace plumb
