#include "io/report/svg_plot.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "io/report/plot_axis.hpp"
#include "io/report/text.hpp"
#include "tests/io/report/markup.hpp"

namespace plumb {
namespace {

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
constexpr double kInfinity = std::numeric_limits<double>::infinity();

PlotSeries falling(size_t num_points) {
  PlotSeries series{"training", {}, false, {}};
  for (size_t i = 1; i <= num_points; ++i)
    series.points.push_back({static_cast<double>(i), 10.0 / static_cast<double>(i)});
  return series;
}

LinePlot plot_of(std::vector<PlotSeries> series) {
  LinePlot plot;
  plot.title = "Loss";
  plot.series = std::move(series);
  return plot;
}

size_t num_found(std::string_view text, std::string_view part) {
  size_t count = 0;
  for (size_t at = text.find(part); at != std::string_view::npos; at = text.find(part, at + 1)) ++count;
  return count;
}

TEST(PlotAxis, TicksAreRoundAndWithinTheRange) {
  EXPECT_EQ(axis_ticks(0, 10, 5), (std::vector<double>{0, 2, 4, 6, 8, 10}));
  EXPECT_EQ(axis_ticks(3, 17, 3), (std::vector<double>{5, 10, 15}));
  for (const double scale : {1e-12, 1e-5, 1.0, 1e9, 1e25}) {
    const std::vector<double> ticks = axis_ticks(0.13 * scale, 0.97 * scale, 5);
    EXPECT_GE(ticks.size(), 3u);
    EXPECT_LE(ticks.size(), 8u);
    for (const double tick : ticks) EXPECT_TRUE(tick >= 0.129 * scale && tick <= 0.971 * scale) << tick;
  }
  EXPECT_TRUE(axis_ticks(1, 1, 5).empty());
}

TEST(PlotAxis, LabelsDistinguishTicks) {
  for (const auto& [low, high] : std::vector<std::pair<double, double>>{
           {0, 1}, {0.101, 0.103}, {0, 5e-5}, {-3, 3}, {0, 40000}, {12340, 12360}, {0, 3e6}, {-90, -70}}) {
    const Axis axis = make_axis({low, high}, {});
    std::set<std::string> labels;
    for (const double tick : axis.ticks) labels.insert(axis.label(tick));
    EXPECT_EQ(labels.size(), axis.ticks.size()) << low << " to " << high;
    EXPECT_GE(labels.size(), 3u);
    for (const std::string& label : labels) EXPECT_LE(label.size(), 8u) << label;
  }
  EXPECT_EQ(make_axis({0, 5e-5}, {}).label(2e-5), "2e-5");
  EXPECT_EQ(make_axis({0, 1}, {.is_share = true}).label(0.5), "50 %");
}

TEST(PlotAxis, EveryRangeGetsANonEmptyAxis) {
  for (const double value : {0.0, 1.0, -5.0, 1e-20, 1e29, -1e29}) {
    const Axis axis = make_axis({value, value}, {});
    EXPECT_LT(axis.low, axis.high) << value;
    EXPECT_GT(axis.share_of(value), 0) << value;
    EXPECT_LT(axis.share_of(value), 1) << value;
  }
  const Axis axis = make_axis({1, 1e6}, {.is_logarithmic = true});
  EXPECT_NEAR(axis.share_of(1e3), 0.5, 1e-9);
  EXPECT_FALSE(axis.ticks.empty());
}

TEST(PlotAxis, MarginsDoNotMakeCountsNegative) {
  EXPECT_EQ(make_axis({0, 10}, {}).low, 0);
  EXPECT_EQ(make_axis({0.2, 1}, {.is_share = true}).high, 1);
}

TEST(PlotAxis, SmoothingNeitherLagsNorBends) {
  std::vector<PlotPoint> line;
  for (int i = 0; i < 200; ++i) line.push_back({static_cast<double>(i), 3.0 * i});
  for (const PlotPoint& point : smoothed(line)) EXPECT_NEAR(point.y, 3 * point.x, 1e-9);
  line[50].y = kNan;
  EXPECT_EQ(smoothed(line).size(), 199u);
  EXPECT_TRUE(smoothed({}).empty());
}

TEST(PlotAxis, ThinningKeepsPeaksAndGaps) {
  std::vector<PlotPoint> points;
  for (int i = 0; i < 100'000; ++i) points.push_back({static_cast<double>(i), 1.0});
  points[31'415].y = 99;
  points[27'182].y = -99;
  points[16'180].y = kNan;
  const std::vector<PlotPoint> few = thinned(points, 400);
  EXPECT_LE(few.size(), 410u);
  const auto has = [&](auto predicate) { return std::any_of(few.begin(), few.end(), predicate); };
  EXPECT_TRUE(has([](const PlotPoint& point) { return point.y == 99; }));
  EXPECT_TRUE(has([](const PlotPoint& point) { return point.y == -99; }));
  EXPECT_TRUE(has([](const PlotPoint& point) { return std::isnan(point.y); }));
  EXPECT_EQ(few.front().x, 0);
  EXPECT_EQ(few.back().x, 99'999);
  EXPECT_TRUE(std::is_sorted(few.begin(), few.end(), [](const auto& a, const auto& b) { return a.x < b.x; }));
}

TEST(SvgPlot, HasATitleForScreenReaders) {
  const std::string svg = render_line_plot(plot_of({falling(10)}));
  const Markup markup = expect_well_formed(svg);
  EXPECT_EQ(markup.count("figure"), 1u);
  EXPECT_EQ(markup.count("svg"), 1u);
  EXPECT_NE(svg.find("<title>Loss: from 1 to 10 over step 0 to 10</title>"), std::string::npos) << svg.substr(0, 300);
  EXPECT_NE(svg.find("viewBox"), std::string::npos);
  EXPECT_EQ(markup.count("ul"), 0u);  // one series needs no legend
}

TEST(SvgPlot, LongSeriesAreSmoothedAndEvaluationsNot) {
  PlotSeries evaluation{"evaluation", falling(30).points, true, {}};
  const std::string svg = render_line_plot(plot_of({falling(300), evaluation}));
  expect_well_formed(svg);
  EXPECT_EQ(num_found(svg, "line raw"), 1u);
  EXPECT_EQ(num_found(svg, "line full"), 2u);
  EXPECT_EQ(num_found(svg, "<circle"), 30u);
  LinePlot plain = plot_of({falling(300)});
  plain.is_noisy = false;
  EXPECT_EQ(num_found(render_line_plot(plain), "line raw"), 0u);
}

TEST(SvgPlot, PointerShowsEveryEvaluation) {
  PlotSeries evaluation{"evaluation", {{77, 0.5}, {151, 0.25}}, true, {}};
  const std::string svg = render_line_plot(plot_of({falling(300), evaluation}));
  EXPECT_NE(svg.find("step 77 \u00b7 training 0.1299 \u00b7 evaluation 0.5"), std::string::npos);
  EXPECT_NE(svg.find("step 151 \u00b7 training 0.06623 \u00b7 evaluation 0.25"), std::string::npos);
}

TEST(SvgPlot, CompanionsShareColorAndLegendEntry) {
  const std::string svg = render_line_plot(plot_of(
      {falling(5), falling(5), {"held out", falling(3).points, true, 0}, {"held out", falling(3).points, true, 1}}));
  EXPECT_EQ(num_found(svg, "<li>"), 3u);
  EXPECT_EQ(num_found(svg, "dot s0"), 3u);
  EXPECT_EQ(num_found(svg, "dot s2"), 0u);
}

TEST(SvgPlot, NonFiniteValuesAreGaps) {
  PlotSeries series = falling(10);
  series.points[4].y = kNan;
  series.points[7].y = kInfinity;
  const std::string svg = render_line_plot(plot_of({series}));
  EXPECT_EQ(svg.find("nan"), std::string::npos);
  EXPECT_EQ(svg.find("inf"), std::string::npos);
  const size_t path = svg.find("line full");
  EXPECT_EQ(num_found(svg.substr(path, svg.find("/>", path) - path), "M"), 3u);
}

TEST(SvgPlot, NoDataRendersNothing) {
  EXPECT_EQ(render_line_plot(plot_of({})), "");
  EXPECT_EQ(render_line_plot(plot_of({PlotSeries{"a", {{1, kNan}, {2, kInfinity}}, false, {}}})), "");
  EXPECT_EQ(render_bar_plot({"Lengths", "", {"1", "2"}, {0}}), "");
}

TEST(SvgPlot, OnePointAndExtremeValuesAreDrawn) {
  EXPECT_NE(render_line_plot(plot_of({falling(1)})).find("<circle"), std::string::npos);
  PlotSeries wide{"a", {{1, -9e29}, {2, 9e29}, {3, 1e308}}, false, {}};
  LinePlot plot = plot_of({wide});
  plot.has_log_y = true;  // ignored with negative values
  const std::string svg = render_line_plot(plot);
  expect_well_formed(svg);
  EXPECT_EQ(svg.find("nan"), std::string::npos);
}

TEST(SvgPlot, NamesAreEscaped) {
  const std::string hostile = "</title></svg><script>alert(1)</script><svg onload=\"x\">";
  LinePlot plot = plot_of({falling(3), falling(4)});
  plot.title = plot.unit = plot.x_name = plot.reference_name = plot.series[0].name = hostile;
  plot.reference = 5;
  EXPECT_EQ(expect_well_formed(render_line_plot(plot)).count("svg"), 1u);
  EXPECT_EQ(expect_well_formed(render_bar_plot({hostile, hostile, {hostile, hostile}, {1}})).count("svg"), 1u);
}

TEST(SvgPlot, BarsAreAsHighAsTheirCounts) {
  const std::string svg = render_bar_plot({"Lengths", "rows", {"16", "32", "64"}, {50, 100}});
  expect_well_formed(svg);
  EXPECT_EQ(num_found(svg, "class=\"bar\""), 2u);
  double heights[2] = {};
  size_t at = 0;
  for (double& height : heights) {
    at = svg.find("class=\"bar\"", at + 1);
    height = std::stod(svg.substr(svg.find("height=\"", at) + 8));
  }
  EXPECT_NEAR(heights[1], 2 * heights[0], 0.2);
  EXPECT_ANY_THROW(render_bar_plot({"Lengths", "", {"1"}, {5}}));
}

TEST(ReportText, EveryByteIsEscaped) {
  EXPECT_EQ(escape_html("a<b>&\"'"), "a&lt;b&gt;&amp;&quot;&#39;");
  EXPECT_EQ(escape_html("\xff"), "\ufffd");
  EXPECT_EQ(escape_html(std::string_view("a\0b", 3)), "a\ufffdb");
  EXPECT_EQ(escape_html("\xc0\xbc"), "\ufffd\ufffd");  // an overlong <
  EXPECT_EQ(escape_html("\xe4\xb8"), "\ufffd\ufffd");  // torn
  EXPECT_EQ(escape_html("\u65e5\U0001f600\n\t"), "\u65e5\U0001f600\n\t");
  EXPECT_EQ(escape_html("\u202egnp"), "\ufffdgnp");  // would be read backwards
}

TEST(ReportText, LongTextIsCutBetweenCharacters) {
  EXPECT_EQ(escape_html("abcdef", 3), "abc\u2026");
  EXPECT_EQ(escape_html("abc", 3), "abc");
  EXPECT_EQ(escape_html("ab\u65e5", 4), "ab\u2026");
}

TEST(ReportText, NumbersAreHumanReadable) {
  EXPECT_EQ(render_count(1234567), "1,234,567");
  EXPECT_EQ(render_count(-123456), "-123,456");
  EXPECT_EQ(render_count(-1000), "-1,000");
  EXPECT_EQ(render_count(999), "999");
  EXPECT_EQ(render_magnitude(260032), "260 k");
  EXPECT_EQ(render_magnitude(999'900), "1 M");
  EXPECT_EQ(render_number(0.693147), "0.6931");
  EXPECT_EQ(render_number(12345.6), "12,346");
  EXPECT_EQ(render_number(kNan), "not finite");
  EXPECT_EQ(render_share(0.8134), "81.3 %");
  EXPECT_EQ(render_seconds(0.81), "0.8 s");
  EXPECT_EQ(render_seconds(59.7), "1 min 00 s");
  EXPECT_EQ(render_seconds(7627), "2 h 07 min");
  EXPECT_EQ(render_seconds(kNan), "unknown");
  EXPECT_EQ(readable_name("eval_rewards/margins"), "Eval rewards / margins");
}

}  // namespace
}  // namespace plumb
