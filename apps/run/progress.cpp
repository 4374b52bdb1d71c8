#include "apps/run/progress.hpp"

#include <fmt/format.h>
#include <unistd.h>

#include <cstdio>

#include "lib/base/text_format.hpp"

namespace plumb {

Progress::Progress() : is_terminal_(isatty(STDERR_FILENO) != 0) {}

void Progress::show(const ProgressState& s, bool is_logged) {
  if (!is_terminal_ && !is_logged) return;
  const std::string line = fmt::format(
      "step {}/{}  epoch {:.2f}{}  loss {:.4f}  grad_norm {:.3f}  lr {:.2e}  {:.0f} tokens/s  {} left  {}", s.step,
      s.num_steps, s.epoch, s.reward ? fmt::format("  reward {:.4g}", *s.reward) : "", s.loss, s.grad_norm,
      s.learning_rate, s.tokens_per_second, render_duration(s.seconds_left), render_bytes(s.memory_bytes));
  if (is_terminal_) {
    fmt::print(stderr, "\r{}\x1b[K", line);
    has_open_line_ = true;
  } else {
    fmt::print(stderr, "{}\n", line);
  }
  std::fflush(stderr);
}

void Progress::finish_line() {
  if (has_open_line_) fmt::print(stderr, "\n");
  has_open_line_ = false;
}

}  // namespace plumb
