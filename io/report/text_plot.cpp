#include "io/report/text_plot.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "io/report/text.hpp"

namespace plumb {

namespace {

constexpr int kLabelColumns = 10;

/// A grid of dots, two by four to a character of Braille, else one.
class Dots {
 public:
  Dots(int columns, int rows, bool has_braille)
      : across_(has_braille ? 2 : 1), down_(has_braille ? 4 : 1), columns_(columns), bits_(columns * rows) {}
  int width() const { return columns_ * across_; }
  int height() const { return static_cast<int>(std::ssize(bits_)) / columns_ * down_; }

  /// y from the top.
  void set(int x, int y) {
    constexpr int kBits[4][2] = {{0x01, 0x08}, {0x02, 0x10}, {0x04, 0x20}, {0x40, 0x80}};
    bits_[y / down_ * columns_ + x / across_] |= kBits[y % down_][x % across_];
  }
  std::string row(int number) const {
    std::string text;
    for (int column = 0; column < columns_; ++column) {
      const int bits = bits_[number * columns_ + column];
      if (bits == 0) {
        text += ' ';
      } else if (down_ == 1) {
        text += '*';
      } else {
        const int code = 0x2800 + bits;  // in UTF-8, three bytes
        text += {static_cast<char>(0xE0 | code >> 12), static_cast<char>(0x80 | (code >> 6 & 63)),
                 static_cast<char>(0x80 | (code & 63))};
      }
    }
    return text;
  }

 private:
  int across_, down_, columns_;
  std::vector<int> bits_;
};

/// A line between two dots: at every column, all rows between.
void draw_line(Dots& dots, int x0, int y0, int x1, int y1) {
  const int steps = std::max({std::abs(x1 - x0), std::abs(y1 - y0), 1});
  for (int i = 0; i <= steps; ++i)
    dots.set(x0 + static_cast<int>(std::lround(static_cast<double>(x1 - x0) * i / steps)),
             y0 + static_cast<int>(std::lround(static_cast<double>(y1 - y0) * i / steps)));
}

}  // namespace

std::string render_text_plot(const TextPlot& plot) {
  std::vector<PlotPoint> points;
  Range xs, ys;
  for (const PlotPoint& point : plot.points)
    if (is_drawable(point.x) && is_drawable(point.y)) points.push_back(point);
  const int columns = plot.num_columns - kLabelColumns;
  if (points.empty() || columns < 10 || plot.num_rows < 2) return "";
  for (const PlotPoint& point : points) {
    xs.include(point.x);
    ys.include(point.y);
  }
  if (plot.x_end > xs.high) xs.include(plot.x_end);
  Dots dots(columns, plot.num_rows, plot.has_braille);
  const double width = std::max(xs.high - xs.low, 1e-300), height = std::max(ys.high - ys.low, 1e-300);
  const auto column_of = [&](const PlotPoint& p) {
    return static_cast<int>((p.x - xs.low) / width * (dots.width() - 1));
  };
  const auto row_of = [&](const PlotPoint& p) {
    return static_cast<int>((ys.high - p.y) / height * (dots.height() - 1));
  };
  for (size_t i = 0; i < points.size(); ++i) {
    const PlotPoint& before = points[i == 0 ? 0 : i - 1];
    draw_line(dots, column_of(before), row_of(before), column_of(points[i]), row_of(points[i]));
  }
  std::string text = fmt::format("{} {}\n", plot.title, render_number(points.back().y));
  for (int row = 0; row < plot.num_rows; ++row) {
    const std::string label = row == 0                   ? fmt::format("{:.3g}", ys.high)
                              : row == plot.num_rows - 1 ? fmt::format("{:.3g}", ys.low)
                                                         : "";
    const std::string line = fmt::format("{:>{}} {}", label, kLabelColumns - 1, dots.row(row));
    text += line.substr(0, line.find_last_not_of(' ') + 1) + "\n";
  }
  return text;
}

}  // namespace plumb
