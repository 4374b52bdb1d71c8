#include "io/report/svg_plot.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "io/report/plot_axis.hpp"
#include "io/report/text.hpp"
#include "lib/base/check.hpp"

namespace plumb {
namespace {

constexpr size_t kMaxPoints = 400;
constexpr size_t kMinPointsToSmooth = 20;
constexpr size_t kMaxReadings = 60;
constexpr size_t kNumColors = 5;

std::string color_class(const LinePlot& plot, size_t series) {
  return fmt::format("s{}", plot.series[series].companion_of.value_or(series) % kNumColors);
}

/// The area of the data, in units of the view box.
struct Frame {
  double width, height;
  double left = 54, top = 10, right_margin = 10, bottom_margin = 28;
  double right() const { return width - right_margin; }
  double bottom() const { return height - bottom_margin; }
};

struct Canvas {
  Frame frame;
  Axis x, y;
  double at_x(double value) const { return frame.left + x.share_of(value) * (frame.right() - frame.left); }
  double at_y(double value) const { return frame.bottom() - y.share_of(value) * (frame.bottom() - frame.top); }
};

std::string line_path(const Canvas& canvas, const std::vector<PlotPoint>& points) {
  std::string path;
  bool has_pen_down = false;
  for (const PlotPoint& point : points) {
    if (!is_drawable(point.y)) {
      has_pen_down = false;
      continue;
    }
    path += fmt::format("{}{:.1f} {:.1f}", has_pen_down ? "L" : "M", canvas.at_x(point.x), canvas.at_y(point.y));
    has_pen_down = true;
  }
  return path;
}

std::string render_series(const Canvas& canvas, const PlotSeries& series, const std::string& color, bool is_noisy) {
  const auto path = [&](const std::vector<PlotPoint>& points, const char* kind) {
    return fmt::format("<path class=\"line {} {}\" d=\"{}\"/>", kind, color, line_path(canvas, points));
  };
  const auto num_drawable = std::count_if(series.points.begin(), series.points.end(),
                                          [](const PlotPoint& point) { return is_drawable(point.y); });
  const bool is_smoothed = is_noisy && !series.has_markers && static_cast<size_t>(num_drawable) >= kMinPointsToSmooth;
  std::string out = path(thinned(series.points, kMaxPoints), is_smoothed ? "raw" : "full");
  if (is_smoothed) out += path(thinned(smoothed(series.points), kMaxPoints), "full");
  if (!series.has_markers && num_drawable > 1) return out;
  for (const PlotPoint& point : thinned(series.points, kMaxPoints)) {
    if (!is_drawable(point.y)) continue;
    out += fmt::format("<circle class=\"dot {}\" cx=\"{:.1f}\" cy=\"{:.1f}\" r=\"3\"/>", color, canvas.at_x(point.x),
                       canvas.at_y(point.y));
  }
  return out;
}

std::string render_axes(const Canvas& canvas, const std::string& x_name) {
  const Frame& frame = canvas.frame;
  std::string out;
  for (const double tick : canvas.y.ticks) {
    const double y = canvas.at_y(tick);
    out += fmt::format("<path class=\"grid\" d=\"M{} {:.1f}H{}\"/><text class=\"y\" x=\"{}\" y=\"{:.1f}\">{}</text>",
                       frame.left, y, frame.right(), frame.left - 6, y + 4, canvas.y.label(tick));
  }
  out += fmt::format("<path class=\"axis\" d=\"M{} {}H{}\"/>", frame.left, frame.bottom(), frame.right());
  for (const double tick : canvas.x.ticks) {
    const double x = canvas.at_x(tick);
    // the end of the axis is reserved for its name
    if (x > frame.right() - 36) continue;
    out +=
        fmt::format("<text class=\"x\" x=\"{:.1f}\" y=\"{}\">{}</text>", x, frame.bottom() + 18, canvas.x.label(tick));
  }
  return out + fmt::format("<text class=\"y\" x=\"{}\" y=\"{}\">{}</text>", frame.right(), frame.bottom() + 18,
                           escape_html(x_name, 40));
}

std::string render_value(const LinePlot& plot, double value) {
  return plot.is_share ? render_share(value) : render_number(value);
}

/// The x positions at which the pointer shows values: all, or an even selection that includes those with markers.
std::vector<double> reading_positions(const LinePlot& plot) {
  std::vector<double> all;
  for (const PlotSeries& series : plot.series)
    for (const PlotPoint& point : series.points)
      if (is_drawable(point.y)) all.push_back(point.x);
  std::sort(all.begin(), all.end());
  all.erase(std::unique(all.begin(), all.end()), all.end());
  if (all.size() <= kMaxReadings) return all;
  std::vector<double> chosen;
  for (size_t i = 0; i < kMaxReadings; ++i) chosen.push_back(all[i * (all.size() - 1) / (kMaxReadings - 1)]);
  for (const PlotSeries& series : plot.series) {
    if (!series.has_markers || series.points.size() > kMaxReadings) continue;
    for (const PlotPoint& point : series.points)
      if (is_drawable(point.y)) chosen.push_back(point.x);
  }
  std::sort(chosen.begin(), chosen.end());
  chosen.erase(std::unique(chosen.begin(), chosen.end()), chosen.end());
  return chosen;
}

/// The point of a series nearest to x, or null if it is farther than `reach`.
const PlotPoint* nearest_point(const std::vector<PlotPoint>& points, double x, double reach) {
  const auto after =
      std::lower_bound(points.begin(), points.end(), x, [](const PlotPoint& point, double at) { return point.x < at; });
  const PlotPoint* best = nullptr;
  for (const auto candidate : {after, after == points.begin() ? after : after - 1}) {
    if (candidate == points.end() || !is_drawable(candidate->y) || std::abs(candidate->x - x) > reach) continue;
    if (best == nullptr || std::abs(candidate->x - x) < std::abs(best->x - x)) best = &*candidate;
  }
  return best;
}

/// Invisible stripes over the plot; the page shows the line and the values of the stripe under the pointer.
std::string render_readings(const LinePlot& plot, const Canvas& canvas) {
  const std::vector<double> positions = reading_positions(plot);
  const Frame& frame = canvas.frame;
  std::string out;
  for (size_t i = 0; i < positions.size(); ++i) {
    const double x = canvas.at_x(positions[i]);
    const double begin = i == 0 ? frame.left : (canvas.at_x(positions[i - 1]) + x) / 2;
    const double end = i + 1 == positions.size() ? frame.right() : (canvas.at_x(positions[i + 1]) + x) / 2;
    const double reach = (canvas.x.high - canvas.x.low) / static_cast<double>(2 * positions.size());
    std::string text = fmt::format("{} {}", escape_html(plot.x_name, 40), render_number(positions[i]));
    for (const PlotSeries& series : plot.series) {
      const PlotPoint* point = nearest_point(series.points, positions[i], reach);
      if (point == nullptr) continue;
      text += " \u00b7 ";
      if (plot.series.size() > 1) text += escape_html(series.name, 40) + " ";
      text += render_value(plot, point->y);
    }
    const bool is_left = x < (frame.left + frame.right()) / 2;
    out += fmt::format(
        "<g class=\"reading\"><rect x=\"{:.1f}\" y=\"{}\" width=\"{:.1f}\" height=\"{}\"/>"
        "<g><path d=\"M{:.1f} {}V{}\"/><text class=\"{}\" x=\"{}\" y=\"{}\">{}</text></g></g>",
        begin, frame.top, std::max(0.0, end - begin), frame.bottom() - frame.top, x, frame.top, frame.bottom(),
        is_left ? "from" : "to", is_left ? frame.left + 4 : frame.right() - 4, frame.top + 11, text);
  }
  return out;
}

std::string render_legend(const LinePlot& plot) {
  if (plot.series.size() < 2 && !plot.reference) return "";
  std::string out = "<ul class=\"legend\">";
  for (size_t i = 0; i < plot.series.size(); ++i) {
    if (plot.series[i].companion_of) continue;
    out += fmt::format("<li><i class=\"{}{}\"></i>{}</li>", plot.series[i].has_markers ? "dot " : "",
                       color_class(plot, i), escape_html(plot.series[i].name, 80));
  }
  const auto is_companion = [](const PlotSeries& series) { return series.companion_of.has_value(); };
  const auto companion = std::find_if(plot.series.begin(), plot.series.end(), is_companion);
  if (companion != plot.series.end()) out += "<li><i class=\"dot\"></i>" + escape_html(companion->name, 80) + "</li>";
  if (plot.reference) out += "<li><i class=\"dashed\"></i>" + escape_html(plot.reference_name, 80) + "</li>";
  return out + "</ul>";
}

std::string open_figure(const std::string& title, const std::string& unit, const std::string& legend,
                        const Frame& frame, const std::string& description) {
  return fmt::format(
      "<figure class=\"plot\"><figcaption>{}{}</figcaption>{}<svg viewBox=\"0 0 {} {}\" role=\"img\"><title>{}</title>",
      escape_html(title, 200), unit.empty() ? "" : " <small>" + escape_html(unit, 40) + "</small>", legend, frame.width,
      frame.height, description);
}

Frame frame_of(PlotSize size) {
  if (size == PlotSize::kThird) return {330, 170};
  return {500, size == PlotSize::kHalf ? 240.0 : 185.0};
}

}  // namespace

std::string render_line_plot(const LinePlot& plot) {
  Range x, y;
  for (const PlotSeries& series : plot.series) {
    for (const PlotPoint& point : series.points) {
      if (!is_drawable(point.y) || !is_drawable(point.x)) continue;
      x.include(point.x);
      y.include(point.y);
    }
  }
  if (x.is_empty()) return "";
  const Range values = y;
  if (plot.reference && is_drawable(*plot.reference)) y.include(*plot.reference);
  if (plot.x_end && is_drawable(*plot.x_end)) x.include(*plot.x_end);
  if (x.low > 0 && x.low < 0.2 * x.high) x.low = 0;
  const Frame frame = frame_of(plot.size);
  const Canvas canvas{frame, make_axis(x, {.num_ticks = plot.size == PlotSize::kThird ? 4 : 6, .has_margin = false}),
                      make_axis(y, {.num_ticks = plot.size == PlotSize::kHalf ? 5 : 3,
                                    .is_logarithmic = plot.has_log_y && y.low > 0,
                                    .is_share = plot.is_share})};

  std::string out = open_figure(plot.title, plot.unit, render_legend(plot), frame,
                                fmt::format("{}: from {} to {} over {} {} to {}", escape_html(plot.title, 200),
                                            render_value(plot, values.low), render_value(plot, values.high),
                                            escape_html(plot.x_name, 40), render_number(x.low), render_number(x.high)));
  out += render_axes(canvas, plot.x_name);
  if (plot.reference && is_drawable(*plot.reference)) {
    out += fmt::format("<path class=\"reference\" d=\"M{} {:.1f}H{}\"/>", frame.left, canvas.at_y(*plot.reference),
                       frame.right());
  }
  for (size_t i = 0; i < plot.series.size(); ++i)
    out += render_series(canvas, plot.series[i], color_class(plot, i), plot.is_noisy);
  return out + render_readings(plot, canvas) + "</svg></figure>\n";
}

std::string render_bar_plot(const BarPlot& plot) {
  check(plot.edges.size() == plot.counts.size() + 1, "a bar plot has one edge more than counts");
  Range y;
  y.include(0);
  double total = 0;
  for (const double count : plot.counts) {
    if (!is_drawable(count) || count < 0) continue;
    y.include(count);
    total += count;
  }
  if (y.high <= 0) return "";
  y.high *= 1.12;  // room for the numbers on the bars
  const Frame frame = frame_of(PlotSize::kHalf);
  const Canvas canvas{frame, {}, make_axis(y, {.num_ticks = 4, .has_margin = false})};
  const auto num_bars = static_cast<double>(plot.counts.size());
  const double bar_width = (frame.right() - frame.left) / num_bars;

  std::string out = open_figure(plot.title, plot.unit, "", frame,
                                fmt::format("{}: {} in total", escape_html(plot.title, 200), render_number(total)));
  out += render_axes(canvas, "");
  for (size_t i = 0; i < plot.counts.size(); ++i) {
    const double count = is_drawable(plot.counts[i]) ? std::max(0.0, plot.counts[i]) : 0;
    const double x = frame.left + static_cast<double>(i) * bar_width;
    const double top = canvas.at_y(count);
    out += fmt::format("<rect class=\"bar\" x=\"{:.1f}\" y=\"{:.1f}\" width=\"{:.1f}\" height=\"{:.1f}\"/>", x + 1, top,
                       std::max(1.0, bar_width - 2), std::max(0.0, frame.bottom() - top));
    if (count > 0 && num_bars <= 14) {
      out += fmt::format("<text class=\"x value\" x=\"{:.1f}\" y=\"{:.1f}\">{}</text>", x + bar_width / 2, top - 5,
                         render_magnitude(count));
    }
  }
  const size_t every = plot.edges.size() / 12 + 1;
  for (size_t i = 0; i < plot.edges.size(); i += every) {
    const char* anchor = i + 1 == plot.edges.size() ? "y" : "x";
    out += fmt::format("<text class=\"{}\" x=\"{:.1f}\" y=\"{}\">{}</text>", anchor,
                       frame.left + static_cast<double>(i) * bar_width, frame.bottom() + 18,
                       escape_html(plot.edges[i], 20));
  }
  return out + "</svg></figure>\n";
}

}  // namespace plumb
