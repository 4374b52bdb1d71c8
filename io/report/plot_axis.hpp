// The arithmetic of plots: ranges, round ticks with short labels, thinning and smoothing of points.
#pragma once

#include <string>
#include <vector>

namespace plumb {

struct PlotPoint {
  double x = 0;
  double y = 0;  // not finite: a gap in the line
};

/// True if the value is finite and small enough that the difference of two such values is finite.
bool is_drawable(double value);

struct Range {
  double low = 1;
  double high = 0;
  bool is_empty() const { return low > high; }
  void include(double value);
};

struct AxisStyle {
  int num_ticks = 5;
  bool is_logarithmic = false;  // the range must be above 0
  bool is_share = false;
  bool has_margin = true;  // some space around the values
};

struct Axis {
  double low = 0;
  double high = 1;
  AxisStyle style;
  std::vector<double> ticks;

  /// The position of a value: 0 at low, 1 at high.
  double share_of(double value) const;
  /// The text of a tick, with as many decimals as distinguish the ticks.
  std::string label(double tick) const;
};

/// An axis that contains all of the range, which must not be empty.
Axis make_axis(Range range, const AxisStyle& style);

/// Multiples 1, 2 or 5 of powers of ten within [low, high], about `count` of them.
std::vector<double> axis_ticks(double low, double high, int count);
/// The drawable values, each replaced by a linear fit over a window of a twelfth of all values, at least 7. Points on a
/// straight line are unchanged, also at both ends.
std::vector<PlotPoint> smoothed(const std::vector<PlotPoint>& points);
/// About max_points at most: the first and the last point, and of each section the minimum, the maximum and a gap.
std::vector<PlotPoint> thinned(const std::vector<PlotPoint>& points, size_t max_points);

}  // namespace plumb
