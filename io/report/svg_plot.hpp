// Plots as inline SVG for the report. Colors are classes (s0, s1, ...) with CSS variables of the page, so that one plot
// works in light and dark mode; values under the pointer appear by CSS alone. Pure functions of their input.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "io/report/plot_axis.hpp"

namespace plumb {

struct PlotSeries {
  std::string name;
  std::vector<PlotPoint> points;  // x never decreases
  bool has_markers = false;       // few points that each matter, such as evaluations: never smoothed
  /// The index of another series to which this one belongs: it takes that one's color, and all companions together have
  /// one entry in the legend, under the name of the first.
  std::optional<size_t> companion_of = {};
};

enum class PlotSize { kHalf, kHalfLow, kThird };  // fraction of the page width on a desktop

struct LinePlot {
  std::string title;
  std::string unit;  // unit of y; may be empty
  std::string x_name = "step";
  std::vector<PlotSeries> series;  // 5 of them have distinct colors
  bool has_log_y = false;          // ignored unless all values are above 0
  bool is_share = false;           // y is in [0, 1] and shown in percent
  PlotSize size = PlotSize::kHalf;
  bool is_noisy = true;                  // false: drawn without a running mean
  std::optional<double> x_end = {};      // the final x, if the points do not reach it yet
  std::optional<double> reference = {};  // y of a dashed horizontal line
  std::string reference_name = {};
};

/// A <figure> with caption, legend and SVG that fills the available width. Empty if no series has a finite point. A
/// series of 20 points or more is drawn faintly, with its running mean on top. At most 400 points per series are drawn;
/// thinning preserves minima and maxima.
std::string render_line_plot(const LinePlot& plot);

/// Bars between edges, as in a histogram: `edges` has one label more than `counts`.
struct BarPlot {
  std::string title;
  std::string unit;
  std::vector<std::string> edges;
  std::vector<double> counts;
};

/// As render_line_plot(). Empty without a positive count. Throws std::logic_error unless `edges` fits `counts`.
std::string render_bar_plot(const BarPlot& plot);

}  // namespace plumb
