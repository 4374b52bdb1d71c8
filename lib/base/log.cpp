#include "lib/base/log.hpp"

#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>

#include "lib/base/redact.hpp"

namespace plumb {

static spdlog::logger& logger() {
  static spdlog::logger instance = [] {
    spdlog::logger made("plumb", std::make_shared<spdlog::sinks::stderr_sink_mt>());
    made.set_pattern("plumb: %v");
    return made;
  }();
  return instance;
}

void set_log_rank(int rank, int num_ranks) {
  if (num_ranks > 1 && rank > 0) {
    logger().set_pattern(fmt::format("plumb: [rank {}] %v", rank));
    logger().set_level(spdlog::level::warn);
  }
}

void log_line(int severity, const std::string& text) {
  const std::string shown = redact_secrets(text);
  switch (severity) {
    case 0:
      return logger().info("{}", shown);
    case 1:
      return logger().warn("warning: {}", shown);
    default:
      return logger().error("error: {}", shown);
  }
}

}  // namespace plumb
