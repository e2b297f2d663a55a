#include "app/report/line_chart.hpp"

#include <algorithm>
#include <cmath>

#include "app/report/chunk_timeline.hpp"
#include "app/report/svg.hpp"

namespace pipecast {

namespace {

// Pixels.
constexpr double kWidth = 960;
constexpr double kHeight = 560;
constexpr double kLeft = 84;
constexpr double kRight = 928;
constexpr double kTop = 96;
constexpr double kBottom = 488;

/// Lines over a common horizontal axis.
class Lines : private SvgCanvas {
 public:
  explicit Lines(const Chart& chart) : chart_(chart) {
    double least = chart.series.front().points.front().second;
    double most = least;
    first_x_ = chart.series.front().points.front().first;
    last_x_ = chart.series.front().points.back().first;
    for (const Series& series : chart.series) {
      for (const auto& [x, y] : series.points) {
        least = std::min(least, y);
        most = std::max(most, y);
      }
    }
    if (chart.from_zero) least = 0;
    constexpr double kTicks = 8;
    const double length = std::max(most - least, 1e-3 * most);
    step_ = tick_step(length > 0 ? length : 1, kTicks);
    low_ = chart.from_zero ? 0 : std::floor(least / step_ - 0.5) * step_;
    high_ = (std::floor(most / step_) + 1) * step_;
    if (last_x_ == first_x_) last_x_ = first_x_ + 1;
  }

  std::string draw() {
    begin(kWidth, kHeight, chart_.title);
    text(kLeft, 40, chart_.title, 22, kInk, Anchor::kStart, 0, true);
    text(kLeft, 66, chart_.subtitle, 14, kPale);
    grid();
    for (const Series& series : chart_.series) curve(series);
    names();
    return finish();
  }

 private:
  [[nodiscard]] double x_of(double x) const {
    return kLeft + (kRight - kLeft) * (x - first_x_) / (last_x_ - first_x_);
  }
  [[nodiscard]] double y_of(double y) const {
    return kBottom - (kBottom - kTop) * (y - low_) / (high_ - low_);
  }

  void grid() {
    constexpr double kRounding = 1e-9;
    for (int tick = 0; low_ + tick * step_ <= high_ + kRounding * step_; ++tick) {
      const double value = low_ + tick * step_;
      line(kLeft, y_of(value), kRight, y_of(value), kGridLine, 1);
      text(kLeft - 10, y_of(value) + 4.5, fmt::format("{:.4g}", value), 13, kInk, Anchor::kEnd);
    }
    constexpr double kTicks = 10;
    const double step = tick_step(last_x_ - first_x_, kTicks);
    const double first = std::ceil(first_x_ / step);
    for (int tick = 0; (first + tick) * step <= last_x_ + kRounding * step; ++tick) {
      const double value = (first + tick) * step;
      line(x_of(value), kTop, x_of(value), kBottom, kGridLine, 1);
      text(x_of(value), kBottom + 22, fmt::format("{:g}", value), 13, kInk, Anchor::kMiddle);
    }
    text((kLeft + kRight) / 2, kBottom + 50, chart_.x_label, 14, kInk, Anchor::kMiddle);
    text(26, (kTop + kBottom) / 2, chart_.y_label, 14, kInk, Anchor::kMiddle, -90);
  }

  void curve(const Series& series) {
    std::string path;
    for (const auto& [x, y] : series.points) {
      path += fmt::format("{}{:.1f} {:.1f}", path.empty() ? "M" : "L", x_of(x), y_of(y));
    }
    add("<path d=\"{}\" stroke=\"{}\" stroke-width=\"2.5\" stroke-linejoin=\"round\"", path,
        series.colour);
    if (!series.dashes.empty()) add(" stroke-dasharray=\"{}\"", series.dashes);
    add(" fill=\"none\"/>\n");
  }

  /// Below each other in an upper corner, where the first line is not; each behind a piece of its
  /// line.
  void names() {
    const auto& points = chart_.series.front().points;
    constexpr double kRoom = 340;
    const double left = points.front().second > points.back().second ? kRight - kRoom : kLeft + 24;
    constexpr double kStroke = 34;
    double y = kTop + 22;
    for (const Series& series : chart_.series) {
      line(left, y - 4.5, left + kStroke, y - 4.5, series.colour, 2.5, series.dashes);
      text(left + kStroke + 10, y, series.name, 14, kInk);
      y += 24;
    }
  }

  const Chart& chart_;
  double first_x_ = 0;
  double last_x_ = 1;
  double step_ = 1;
  double low_ = 0;
  double high_ = 1;
};

}  // namespace

std::string line_chart(const Chart& chart) { return Lines(chart).draw(); }

}  // namespace pipecast
