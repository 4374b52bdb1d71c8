#include "io/report/plot_axis.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <iterator>

namespace plumb {
namespace {

constexpr double kMaxDrawable = 1e30;

/// The smallest of 1, 2 and 5 times a power of ten that is at least `value`, up to rounding.
double round_step(double value) {
  const double power = std::pow(10, std::floor(std::log10(value)));
  for (const double factor : {1.0, 2.0, 5.0})
    if (value <= factor * power * 1.0001) return factor * power;
  return 10 * power;
}

/// Multiples 1, 2 and 5 of powers of ten, or only every few powers over many decades.
std::vector<double> logarithmic_ticks(double low, double high, int count) {
  std::vector<double> ticks;
  const double decades = std::log10(high / low);
  const auto every = static_cast<int>(std::max(1.0, std::ceil(decades / count)));
  for (auto power = static_cast<int>(std::floor(std::log10(low))); power <= std::log10(high); ++power) {
    for (const double factor : {1.0, 2.0, 5.0}) {
      if (factor > 1 && decades > 1.5) break;
      const double tick = factor * std::pow(10, power);
      if (power % every == 0 && tick >= low && tick <= high) ticks.push_back(tick);
    }
  }
  return ticks;
}

std::string without_exponent_zeros(std::string text) {
  const size_t exponent = text.find('e');
  if (exponent == std::string::npos) return text;
  if (text[exponent + 1] == '+') text.erase(exponent + 1, 1);
  const size_t digits = exponent + (text[exponent + 1] == '-' ? 2 : 1);
  while (digits + 1 < text.size() && text[digits] == '0') text.erase(digits, 1);
  return text;
}

}  // namespace

bool is_drawable(double value) { return std::isfinite(value) && std::abs(value) < kMaxDrawable; }

void Range::include(double value) {
  if (is_empty()) low = high = value;
  low = std::min(low, value);
  high = std::max(high, value);
}

double Axis::share_of(double value) const {
  const double share =
      style.is_logarithmic ? std::log(value / low) / std::log(high / low) : (value - low) / (high - low);
  return std::clamp(share, 0.0, 1.0);
}

std::string Axis::label(double tick) const {
  const double scale = style.is_share ? 100 : 1;
  const double largest = std::max(std::abs(low), std::abs(high)) * scale;
  if (style.is_logarithmic || largest < 1e-3) return without_exponent_zeros(fmt::format("{:.3g}", tick * scale));
  double divisor = 1;
  const char* suffix = style.is_share ? " %" : "";
  if (largest >= 1e9) {
    divisor = 1e9, suffix = " B";
  } else if (largest >= 1e6) {
    divisor = 1e6, suffix = " M";
  } else if (largest >= 1e4) {
    divisor = 1e3, suffix = " k";
  }
  const double step = ticks.size() > 1 ? (ticks[1] - ticks[0]) * scale / divisor : 1;
  const int decimals = std::clamp(static_cast<int>(std::ceil(-std::log10(step) - 1e-6)), 0, 6);
  return fmt::format("{:.{}f}{}", tick == 0 ? 0 : tick * scale / divisor, decimals, suffix);
}

Axis make_axis(Range range, const AxisStyle& style) {
  Axis axis{range.low, range.high, style, {}};
  if (style.is_logarithmic) {
    const double margin = range.high > range.low ? std::pow(range.high / range.low, 0.05) : 2;
    axis.low /= margin, axis.high *= margin;
    axis.ticks = logarithmic_ticks(axis.low, axis.high, style.num_ticks);
    return axis;
  }
  // a single value, or values that differ only by rounding
  const double least = std::max(1e-9 * std::abs(range.high), 1e-12);
  if (range.high - range.low < least) {
    const double half = std::max(0.05 * std::abs(range.high), style.is_share ? 0.05 : 1e-6);
    axis.low -= half, axis.high += half;
  } else if (style.has_margin) {
    const double margin = 0.06 * (range.high - range.low);
    axis.low -= margin, axis.high += margin;
    // a margin must not suggest that non-negative values could be negative
    if (range.low >= 0) axis.low = std::max(0.0, axis.low);
  }
  if (style.is_share) axis.low = std::max(0.0, axis.low), axis.high = std::min(std::max(1.0, range.high), axis.high);
  // round numbers may be too coarse for the range
  for (int count = style.num_ticks; axis.ticks.size() < 3 && count <= 3 * style.num_ticks; ++count)
    axis.ticks = axis_ticks(axis.low, axis.high, count);
  return axis;
}

std::vector<double> axis_ticks(double low, double high, int count) {
  std::vector<double> ticks;
  if (!(high > low) || count < 1) return ticks;
  const double step = round_step((high - low) / count);
  const double first = std::ceil(low / step - 1e-6);
  for (int i = 0; i <= 2 * count; ++i) {
    const double tick = (first + i) * step;
    if (tick > high + 1e-6 * step) break;
    ticks.push_back(tick);
  }
  return ticks;
}

std::vector<PlotPoint> smoothed(const std::vector<PlotPoint>& points) {
  std::vector<PlotPoint> drawable;
  std::copy_if(points.begin(), points.end(), std::back_inserter(drawable),
               [](const PlotPoint& point) { return is_drawable(point.y); });
  const size_t size = drawable.size();
  std::vector<double> sum_before = {0}, moment_before = {0};
  for (size_t i = 0; i < size; ++i) {
    sum_before.push_back(sum_before[i] + drawable[i].y);
    moment_before.push_back(moment_before[i] + static_cast<double>(i) * drawable[i].y);
  }
  std::vector<PlotPoint> result;
  const size_t window = std::min(size, std::max<size_t>(7, size / 12));
  for (size_t i = 0; i < size; ++i) {
    const size_t begin = std::min(i < window / 2 ? 0 : i - window / 2, size - window), end = begin + window;
    const auto count = static_cast<double>(window);
    const double middle = static_cast<double>(begin) + (count - 1) / 2;
    const double sum = sum_before[end] - sum_before[begin];
    // least squares over the window: the slope matters only at the ends, where the window is not centered
    const double spread = count * (count * count - 1) / 12;
    const double slope = spread > 0 ? (moment_before[end] - moment_before[begin] - middle * sum) / spread : 0;
    result.push_back({drawable[i].x, sum / count + slope * (static_cast<double>(i) - middle)});
  }
  return result;
}

std::vector<PlotPoint> thinned(const std::vector<PlotPoint>& points, size_t max_points) {
  if (points.size() <= std::max<size_t>(max_points, 6)) return points;
  const size_t num_stretches = std::max<size_t>(max_points, 6) / 3;
  std::vector<PlotPoint> result = {points.front()};
  for (size_t i = 0; i < num_stretches; ++i) {
    const size_t begin = 1 + i * (points.size() - 2) / num_stretches;
    const size_t end = 1 + (i + 1) * (points.size() - 2) / num_stretches;
    std::vector<size_t> kept;
    size_t lowest = end, highest = end, gap = end;
    for (size_t j = begin; j < end; ++j) {
      if (!is_drawable(points[j].y)) {
        gap = j;
        continue;
      }
      if (lowest == end || points[j].y < points[lowest].y) lowest = j;
      if (highest == end || points[j].y > points[highest].y) highest = j;
    }
    for (const size_t j : {lowest, highest, gap})
      if (j != end) kept.push_back(j);
    std::sort(kept.begin(), kept.end());
    kept.erase(std::unique(kept.begin(), kept.end()), kept.end());
    for (const size_t j : kept) result.push_back(points[j]);
  }
  result.push_back(points.back());
  return result;
}

}  // namespace plumb
