#include "app/report/logarithmic_chart.hpp"

#include <algorithm>
#include <cmath>
#include <set>

#include "app/report/svg.hpp"
#include "base/error.hpp"

namespace pipecast {

namespace {

// Pixels.
constexpr double kWidth = 960;
constexpr double kLeft = 96;
constexpr double kRight = 928;
constexpr double kTop = 96;
constexpr double kBottom = 448;
constexpr double kNames = kBottom + 88;  // base line of the first
constexpr double kNameHeight = 24;
constexpr double kMarker = 4;  // radius

class LogarithmicLines : private SvgCanvas {
 public:
  explicit LogarithmicLines(const Chart& chart) : chart_(chart) {
    double least = INFINITY;
    double most = 0;
    for (const Series& series : chart.series) {
      for (const auto& [x, y] : series.points) {
        if (y <= 0) continue;
        least = std::min(least, y);
        most = std::max(most, y);
        ticks_.insert(x);
      }
    }
    require(most > 0, "--svg: nothing is above zero; a logarithmic chart would be empty");
    constexpr double kWide = 8;
    logarithmic_x_ = *ticks_.begin() > 0 && *ticks_.rbegin() > kWide * *ticks_.begin();
    low_ = std::floor(std::log10(least));
    high_ = std::max(std::ceil(std::log10(most)), low_ + 1);
  }

  std::string draw() {
    const auto lines = static_cast<double>(chart_.series.size());
    begin(kWidth, kNames + kNameHeight * std::ceil(lines / 2), chart_.title);
    text(kLeft, 40, chart_.title, 22, kInk, Anchor::kStart, 0, true);
    text(kLeft, 66, chart_.subtitle, 14, kPale);
    grid();
    for (const Series& series : chart_.series) curve(series);
    names();
    return finish();
  }

 private:
  [[nodiscard]] double place(double x) const { return logarithmic_x_ ? std::log10(x) : x; }
  [[nodiscard]] double x_of(double x) const {
    const double first = place(*ticks_.begin());
    const double length = place(*ticks_.rbegin()) - first;
    return length == 0 ? kLeft : kLeft + (kRight - kLeft) * (place(x) - first) / length;
  }
  [[nodiscard]] double y_of(double y) const {
    return kBottom - (kBottom - kTop) * (std::log10(y) - low_) / (high_ - low_);
  }

  /// Decades, and 2 and 5 times them where there are few; the values of x that have room.
  void grid() {
    constexpr double kFewDecades = 3;
    for (double decade = low_; decade <= high_; ++decade) {
      horizontal(std::pow(10, decade));
      if (high_ - low_ > kFewDecades || decade == high_) continue;
      for (const double digit : {2.0, 5.0}) horizontal(digit * std::pow(10, decade));
    }
    constexpr double kRoom = 48;
    double last = -kRoom;
    for (const double x : ticks_) {
      line(x_of(x), kTop, x_of(x), kBottom, kGridLine, 1);
      if (x_of(x) < last + kRoom) continue;
      last = x_of(x);
      text(x_of(x), kBottom + 22, fmt::format("{:g}", x), 13, kInk, Anchor::kMiddle);
    }
    text((kLeft + kRight) / 2, kBottom + 50, chart_.x_label, 14, kInk, Anchor::kMiddle);
    text(26, (kTop + kBottom) / 2, chart_.y_label, 14, kInk, Anchor::kMiddle, -90);
  }

  void horizontal(double y) {
    line(kLeft, y_of(y), kRight, y_of(y), kGridLine, 1);
    text(kLeft - 10, y_of(y) + 4.5, fmt::format("{:.0e}", y), 13, kInk, Anchor::kEnd);
  }

  void curve(const Series& series) {
    std::string path;
    for (const auto& [x, y] : series.points) {
      if (y <= 0) continue;
      path += fmt::format("{}{:.1f} {:.1f}", path.empty() ? "M" : "L", x_of(x), y_of(y));
      add("<circle cx=\"{:.1f}\" cy=\"{:.1f}\" r=\"{:g}\" fill=\"{}\"/>\n", x_of(x), y_of(y),
          kMarker, series.colour);
    }
    if (path.empty()) return;
    add("<path d=\"{}\" stroke=\"{}\" stroke-width=\"2.5\" stroke-linejoin=\"round\"", path,
        series.colour);
    if (!series.dashes.empty()) add(" stroke-dasharray=\"{}\"", series.dashes);
    add(" fill=\"none\"/>\n");
  }

  /// In two columns, each behind a piece of its line.
  void names() {
    constexpr double kStroke = 34;
    for (std::size_t i = 0; i < chart_.series.size(); ++i) {
      const Series& series = chart_.series[i];
      const double left = i % 2 == 0 ? kLeft : (kLeft + kRight) / 2;
      const double y = kNames + kNameHeight * static_cast<double>(i / 2);
      line(left, y - 4.5, left + kStroke, y - 4.5, series.colour, 2.5, series.dashes);
      text(left + kStroke + 10, y, series.name, 14, kInk);
    }
  }

  const Chart& chart_;
  std::set<double> ticks_;
  bool logarithmic_x_ = false;
  double low_ = 0;  // decades
  double high_ = 1;
};

}  // namespace

std::string logarithmic_chart(const Chart& chart) { return LogarithmicLines(chart).draw(); }

}  // namespace pipecast
