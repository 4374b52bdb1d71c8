// Log lines on standard error, prefixed with the rank when there are several. These functions hide spdlog, so that no
// other file depends on it.
#pragma once

#include <fmt/format.h>

#include <string>
#include <utility>

namespace plumb {

/// Rank 0 of the world logs everything, the others warnings and errors only. Call once, after the rank is known.
void set_log_rank(int rank, int num_ranks);

void log_line(int severity, const std::string& text);

template <class... Args>
void log_info(fmt::format_string<Args...> format, Args&&... args) {
  log_line(0, fmt::format(format, std::forward<Args>(args)...));
}
template <class... Args>
void log_warning(fmt::format_string<Args...> format, Args&&... args) {
  log_line(1, fmt::format(format, std::forward<Args>(args)...));
}
template <class... Args>
void log_error(fmt::format_string<Args...> format, Args&&... args) {
  log_line(2, fmt::format(format, std::forward<Args>(args)...));
}

}  // namespace plumb
