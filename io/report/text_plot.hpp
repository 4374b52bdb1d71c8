// Curves as text for a terminal: dots of Braille, eight to a character, or stars.
#pragma once

#include <string>
#include <vector>

#include "io/report/plot_axis.hpp"

namespace plumb {

struct TextPlot {
  std::string title;
  std::vector<PlotPoint> points;  // x never decreases
  double x_end = 0;               // the final x, if the points do not reach it yet; 0: where they end
  int num_columns = 60, num_rows = 8;
  bool has_braille = true;  // false: ASCII only
};

/// Lines of at most num_columns characters: the title with the last value, then the curve with the ends of its y axis.
/// Empty without a drawable point, or where there is no room.
std::string render_text_plot(const TextPlot& plot);

}  // namespace plumb
