#include "io/report/live_report.hpp"

#include <algorithm>

#include "io/file/file.hpp"
#include "io/report/report.hpp"
#include "lib/base/check.hpp"
#include "lib/base/log.hpp"

namespace plumb {

LiveReport::LiveReport(const std::string& stage_directory, Clock::duration interval)
    : directory_(stage_directory), interval_(interval), due_at_(Clock::now() + interval) {
  const std::string parent = parent_path(stage_directory);
  if (is_regular_file(join_path(parent, "pipeline.json"))) directory_ = parent;
}

void LiveReport::refresh() {
  const Clock::time_point begin = Clock::now();
  if (has_failed_ || begin < due_at_) return;
  try {
    write_report(directory_);
  } catch (const InputOutputError& error) {
    has_failed_ = true;
    log_warning("report.html is not written again before the end: {}", error.what());
  }
  due_at_ = Clock::now() + std::max(interval_, 100 * (Clock::now() - begin));
}

}  // namespace plumb
