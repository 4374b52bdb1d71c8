// The arithmetic of plots: ranges, round ticks with short labels, and fewer or smoother points.
#pragma once

#include <string>
#include <vector>

namespace plumb {

struct PlotPoint {
  double x = 0;
  double y = 0;  // not finite: a gap in the line
};

/// Finite and small enough that differences of two stay finite.
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
  bool has_margin = true;  // a little room beyond the values
};

struct Axis {
  double low = 0;
  double high = 1;
  AxisStyle style;
  std::vector<double> ticks;

  /// 0 at low, 1 at high.
  double share_of(double value) const;
  /// Of a tick: with as many decimals as the ticks differ in.
  std::string label(double tick) const;
};

/// Holds all of the range, which must not be empty.
Axis make_axis(Range range, const AxisStyle& style);

/// Round values of 1, 2 or 5 times a power of ten within [low, high], about `count` of them.
std::vector<double> axis_ticks(double low, double high, int count);
/// The drawable values, each replaced by a line through its neighbors: a twelfth of all, at least 7. A point of a
/// straight line stays where it is, also at both ends.
std::vector<PlotPoint> smoothed(const std::vector<PlotPoint>& points);
/// At most about max_points, keeping the first and last and, of each stretch, the lowest, the highest and a gap.
std::vector<PlotPoint> thinned(const std::vector<PlotPoint>& points, size_t max_points);

}  // namespace plumb
