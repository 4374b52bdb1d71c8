#include "apps/commands/watch.hpp"

#include <fmt/format.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstdlib>
#include <ctime>
#include <sstream>

#include "apps/commands/run_standing.hpp"
#include "io/report/run_summary.hpp"
#include "io/report/text.hpp"
#include "io/report/text_plot.hpp"
#include "lib/base/check.hpp"
#include "lib/base/clock.hpp"

namespace plumb {

namespace {

constexpr long kSecondsPerFrame = 2;
constexpr int kLeastPlotRows = 5, kMostPlotRows = 12;

/// The curves that are shown, the first ones where there is no room for all.
constexpr const char* kCurves[] = {
    "loss", "eval_loss", "rewards/accuracies", "accuracy", "mean_token_accuracy", "grad_norm", "tokens_per_second"};

bool is_utf8_locale() {
  for (const char* name : {"LC_ALL", "LC_CTYPE", "LANG"})
    if (const char* const value = std::getenv(name); value != nullptr && *value != '\0')
      return std::string_view(value).find("UTF-8") != std::string_view::npos ||
             std::string_view(value).find("utf8") != std::string_view::npos;
  return false;
}

Screen screen_of_terminal() {
  Screen screen;
  screen.has_braille = is_utf8_locale();
  struct winsize size = {};
  if (::ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 && size.ws_row > 0) {
    screen.num_columns = size.ws_col;
    screen.num_rows = size.ws_row;
  }
  return screen;
}

/// The first num_columns characters, without control characters of a file.
std::string cut(const std::string& line, int num_columns) {
  std::string text;
  int count = 0;
  for (const char c : line) {
    const auto byte = static_cast<unsigned char>(c);
    if ((byte & 0xC0) != 0x80 && ++count > num_columns) break;
    text += byte < ' ' || byte == 0x7F ? '?' : c;
  }
  return text;
}

std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> lines;
  std::istringstream stream(text);
  for (std::string line; std::getline(stream, line);) lines.push_back(line);
  return lines;
}

/// Plots below each other in this many lines.
std::string render_plots(const std::string& directory, const Screen& screen, int num_lines) {
  const RunSummary run = read_run(directory);
  const StageSummary& stage = run.stages.front();
  std::vector<TextPlot> plots;
  for (const char* key : kCurves) {
    const auto& points = stage.metric(key);
    if (points.size() < 2 || static_cast<int>(plots.size() + 1) * (kLeastPlotRows + 1) > num_lines) continue;
    plots.push_back({.title = readable_name(key),
                     .points = thinned(points, 2000),
                     .x_end = stage.status == "done" ? 0.0 : static_cast<double>(stage.num_steps),
                     .num_columns = screen.num_columns,
                     .has_braille = screen.has_braille});
  }
  std::string text;
  for (TextPlot& plot : plots) {
    plot.num_rows = std::min(kMostPlotRows, num_lines / static_cast<int>(plots.size()) - 1);
    text += render_text_plot(plot);
  }
  return text;
}

/// The terminal's other screen, without a cursor, for as long as this lives.
class OtherScreen {
 public:
  OtherScreen() { fmt::print("\x1b[?1049h\x1b[?25l"); }
  ~OtherScreen() {
    fmt::print("\x1b[?25h\x1b[?1049l");
    std::fflush(stdout);
  }
  OtherScreen(const OtherScreen&) = delete;
  OtherScreen& operator=(const OtherScreen&) = delete;
};

}  // namespace

std::string render_screen(const std::string& directory, const Screen& screen) {
  const Standing standing = standing_of(directory);
  std::vector<std::string> lines = {fmt::format("{}  {}  (Ctrl-C ends)", directory, utc_now())};
  for (const std::string& line : lines_of(standing.text)) lines.push_back(line);
  const int num_left = screen.num_rows - static_cast<int>(lines.size()) - 1;
  if (!standing.active_directory.empty() && num_left > kLeastPlotRows) {
    lines.emplace_back();
    for (const std::string& line : lines_of(render_plots(standing.active_directory, screen, num_left)))
      lines.push_back(line);
  }
  std::string text;
  for (size_t i = 0; i < lines.size() && i < static_cast<size_t>(screen.num_rows); ++i) {
    if (i > 0) text += '\n';
    text += cut(lines[i], screen.num_columns);
  }
  return text;
}

int watch(const std::string& directory) {
  if (::isatty(STDOUT_FILENO) == 0)
    throw UsageError("--watch: expected a terminal, got a file or a pipe; without it the state is printed once");
  sigset_t signals;
  sigemptyset(&signals);
  for (const int signal : {SIGINT, SIGTERM, SIGHUP, SIGWINCH}) sigaddset(&signals, signal);
  ::sigprocmask(SIG_BLOCK, &signals, nullptr);
  Standing standing = standing_of(directory);  // throws before the screen is changed
  {
    const OtherScreen other;
    for (int signal = -1; standing.state == "running" && (signal < 0 || signal == SIGWINCH);) {
      std::string screen = render_screen(directory, screen_of_terminal());
      for (size_t at = 0; (at = screen.find('\n', at)) != std::string::npos; at += 5)
        screen.replace(at, 1, "\x1b[K\r\n");
      fmt::print("\x1b[H{}\x1b[J", screen);
      std::fflush(stdout);
      const timespec wait = {kSecondsPerFrame, 0};
      signal = ::sigtimedwait(&signals, nullptr, &wait);  // -1: nothing came
      standing = standing_of(directory);
    }
  }
  fmt::print("{}", standing.text);
  return exit_code_of(standing.state);
}

}  // namespace plumb
