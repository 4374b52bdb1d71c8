// Plots as inline SVG for the report. Colors are classes (s0, s1, ...) and CSS variables of the page that holds them,
// so one plot reads in light and dark; what a pointer reads off appears by CSS alone. Pure functions of their input.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "io/report/plot_axis.hpp"

namespace plumb {

struct PlotSeries {
  std::string name;
  std::vector<PlotPoint> points;  // x never falls
  bool has_markers = false;       // few points that each count, such as evaluations: never smoothed
  /// Index of another series that this one belongs to: it takes that one's color, and all
  /// companions together one place in the legend, under the name of the first.
  std::optional<size_t> companion_of = {};
};

enum class PlotSize { kHalf, kHalfLow, kThird };  // of the width of the page on a desktop

struct LinePlot {
  std::string title;
  std::string unit;  // of y; may be empty
  std::string x_name = "step";
  std::vector<PlotSeries> series;  // of which 5 have colors of their own
  bool has_log_y = false;          // ignored unless all values are above 0
  bool is_share = false;           // y lies in [0, 1] and is shown in percent
  PlotSize size = PlotSize::kHalf;
  bool is_noisy = true;                  // false: drawn as it is, without a running mean
  std::optional<double> x_end = {};      // where x will end, if the points have not come so far yet
  std::optional<double> reference = {};  // y of a dashed line across
  std::string reference_name = {};
};

/// A <figure> with caption, legend and SVG that fills the width it is given. Empty if no series has a finite point.
/// A series of 20 points and more is drawn faint, with its running mean over it. At most 400 points of a series are
/// drawn; of those between, the lowest and highest survive.
std::string render_line_plot(const LinePlot& plot);

/// Bars between edges, as of a histogram: edges has one label more than counts.
struct BarPlot {
  std::string title;
  std::string unit;
  std::vector<std::string> edges;
  std::vector<double> counts;
};

/// Like render_line_plot. Empty without a count above 0. Throws std::logic_error unless edges fit counts.
std::string render_bar_plot(const BarPlot& plot);

}  // namespace plumb
