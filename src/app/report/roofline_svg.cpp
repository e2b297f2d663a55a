#include "app/report/roofline_svg.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <numbers>
#include <set>
#include <string_view>
#include <utility>

#include "app/report/svg.hpp"
#include "app/report/table.hpp"
#include "base/assert.hpp"

namespace pipecast {

namespace {

// Pixels.
constexpr double kWidth = 960;
constexpr double kHeight = 640;
constexpr double kLeft = 84;
constexpr double kRight = 928;
constexpr double kTop = 92;
constexpr double kBottom = 568;

constexpr double kTera = 1e12;

/// "0.02", "5", "1,000".
std::string tick_text(double value) {
  return value < 1 ? fmt::format("{:g}", value) : grouped(value);
}

/// The nearest of 1, 2, 5, 10, 20, ... that is not above (or not below) a value.
double round_down(double value) {
  const double decade = std::pow(10.0, std::floor(std::log10(value)));
  return value >= 5 * decade ? 5 * decade : value >= 2 * decade ? 2 * decade : decade;
}
double round_up(double value) {
  const double below = round_down(value);
  if (below == value) return value;
  return round_down(below * 2.5);  // 1 to 2, 2 to 5, 5 to 10
}

/// One logarithmic axis over a range of pixels.
class Axis {
 public:
  /// @param low, high  values to cover
  Axis(double low, double high, double first_pixel, double last_pixel)
      : low_(round_down(low)), high_(round_up(high)), first_pixel_(first_pixel) {
    per_decade_ = (last_pixel - first_pixel) / std::log10(high_ / low_);
  }

  [[nodiscard]] double at(double value) const {
    return first_pixel_ + std::log10(value / low_) * per_decade_;
  }
  [[nodiscard]] double low() const { return low_; }
  [[nodiscard]] double high() const { return high_; }
  [[nodiscard]] double per_decade() const { return per_decade_; }

  /// Calls `tick(value, digit)` for every digit times a power of ten, from end to end.
  template <class Tick>
  void for_each_tick(const Tick& tick) const {
    const int first = static_cast<int>(std::floor(std::log10(low_)));
    const int last = static_cast<int>(std::ceil(std::log10(high_)));
    constexpr double kRounding = 1 + 1e-9;
    for (int exponent = first; exponent <= last; ++exponent) {
      for (int digit = 1; digit < 10; ++digit) {
        const double value = digit * std::pow(10.0, exponent);
        if (value * kRounding >= low_ && value <= high_ * kRounding) tick(value, digit);
      }
    }
  }
  /// Whether a tick gets its number: decades, and 2 and 5 where there is room.
  [[nodiscard]] bool has_number(int digit) const {
    constexpr double kRoom = 130;  // pixels a decade
    return digit == 1 || ((digit == 2 || digit == 5) && std::abs(per_decade_) >= kRoom);
  }

 private:
  double low_;
  double high_;
  double first_pixel_;
  double per_decade_ = 1;
};

class Drawing : private SvgCanvas {
 public:
  explicit Drawing(const RooflinePicture& picture)
      : picture_(picture), x_(intensity_axis(picture)), y_(rate_axis(picture)) {}

  std::string draw() {
    heading();
    grid();
    roof();
    points();
    if (picture_.predicted.size() == 1) mark_point();
    legend();
    return finish();
  }

 private:
  static double teraflops(FlopRate rate) { return rate.count() / kTera; }

  /// Where a slope meets the highest ceiling.
  static double corner(const RooflinePicture& picture, const RooflineSlope& slope) {
    return picture.ceilings.front().rate.count() / slope.bandwidth.count();
  }

  static Axis intensity_axis(const RooflinePicture& picture) {
    const double hbm_corner = corner(picture, picture.slopes.front());
    double low = hbm_corner / 10;
    double high = 8 * hbm_corner;
    if (picture.second) low = std::min(low, picture.second->intensity / 2);
    for (const auto* list : {&picture.predicted, &picture.measured}) {
      for (const RooflinePoint& point : *list) {
        low = std::min(low, point.intensity);
        high = std::max(high, 1.5 * point.intensity);
      }
    }
    return {low, high, kLeft, kRight};
  }

  static Axis rate_axis(const RooflinePicture& picture) {
    const double peak = teraflops(picture.ceilings.front().rate);
    double low = peak / 40;
    double high = 1.8 * peak;  // room for the ceiling's name
    for (const auto* list : {&picture.predicted, &picture.measured}) {
      for (const RooflinePoint& point : *list) {
        low = std::min(low, teraflops(point.rate) / 1.5);
        high = std::max(high, teraflops(point.rate));
      }
    }
    return {low, high, kBottom, kTop};
  }

  void heading() {
    begin(kWidth, kHeight, picture_.title);
    text(kLeft, 40, picture_.title, 22, kInk, Anchor::kStart, 0, true);
    text(kLeft, 66, picture_.subtitle, 14, kPale);
  }

  void grid() {
    const auto colour = [](int digit) { return digit == 1 ? "#D4D4D4" : "#F0F0F0"; };
    x_.for_each_tick([&](double value, int digit) {
      line(x_.at(value), kTop, x_.at(value), kBottom, colour(digit), 1);
      if (!x_.has_number(digit)) return;
      text(x_.at(value), kBottom + 22, tick_text(value), 13, kInk, Anchor::kMiddle);
    });
    y_.for_each_tick([&](double value, int digit) {
      line(kLeft, y_.at(value), kRight, y_.at(value), colour(digit), 1);
      if (!y_.has_number(digit)) return;
      text(kLeft - 10, y_.at(value) + 4.5, tick_text(value), 13, kInk, Anchor::kEnd);
    });
    text((kLeft + kRight) / 2, kBottom + 52,
         fmt::format("arithmetic intensity: FLOP per byte from or to {}",
                     picture_.slopes.front().name),
         14, kInk, Anchor::kMiddle);
    text(26, (kTop + kBottom) / 2, "TFLOP/s", 14, kInk, Anchor::kMiddle, -90);
  }

  /// Intensity at which a slope enters the picture: at its left edge or at its lower one.
  [[nodiscard]] double entry(const RooflineSlope& slope) const {
    return std::max(x_.low(), y_.low() * kTera / slope.bandwidth.count());
  }

  void roof() {
    const RooflineSlope& first = picture_.slopes.front();
    const double peak = teraflops(picture_.ceilings.front().rate);
    const auto under = [&](double intensity) {
      return std::max(y_.low(), intensity * first.bandwidth.count() / kTera);
    };
    add("<path d=\"M{:.1f} {:.1f}L{:.1f} {:.1f}L{:.1f} {:.1f}H{:.1f}V{:.1f}H{:.1f}Z\" fill=\"{}\" "
        "fill-opacity=\"0.06\"/>\n",
        x_.at(x_.low()), y_.at(under(x_.low())), x_.at(entry(first)), y_.at(under(entry(first))),
        x_.at(corner(picture_, first)), y_.at(peak), kRight, kBottom, kLeft, kBlue);
    slopes();
    ceilings();
  }

  void slopes() {
    static constexpr std::array<std::string_view, 2> kColours = {kInk, kGreen};
    const double angle =
        -std::atan2(std::abs(y_.per_decade()), x_.per_decade()) * 180 / std::numbers::pi;
    for (std::size_t i = 0; i < picture_.slopes.size(); ++i) {
      const RooflineSlope& slope = picture_.slopes[i];
      const std::string_view colour = kColours[i % kColours.size()];
      const double from = entry(slope);
      const double to = corner(picture_, slope);
      if (to <= from) continue;
      const auto height = [&](double intensity) {
        return y_.at(intensity * slope.bandwidth.count() / kTera);
      };
      line(x_.at(from), height(from), x_.at(to), height(to), colour, 2.5);
      // Near the foot, where few points are.
      const double middle = from * std::pow(to / from, 0.35);
      const double tilt = angle * std::numbers::pi / 180;
      text(x_.at(middle) + 9 * std::sin(tilt), height(middle) - 9 * std::cos(tilt),
           fmt::format("{} {:.3g} TB/s", slope.name, slope.bandwidth.count() / kTera), 13, colour,
           Anchor::kMiddle, angle);
    }
  }

  void ceilings() {
    // Names stand above the roof, where no point is: that of the highest ceiling on top.
    double name_y = y_.at(teraflops(picture_.ceilings.front().rate)) - 9 -
                    19 * static_cast<double>(picture_.ceilings.size() - 1);
    for (std::size_t i = 0; i < picture_.ceilings.size(); ++i) {
      const RooflineCeiling& ceiling = picture_.ceilings[i];
      double start = x_.high();
      for (const RooflineSlope& slope : picture_.slopes) {
        start = std::min(start, ceiling.rate.count() / slope.bandwidth.count());
      }
      const double y = y_.at(teraflops(ceiling.rate));
      const bool top = i == 0;
      line(x_.at(std::max(start, x_.low())), y, kRight, y, top ? kInk : kPale, top ? 2.5 : 1.8,
           top ? "" : "7 4");
      text(kRight - 8, name_y,
           fmt::format("{}{}: {} TFLOP/s", top ? "" : "dashed: ", ceiling.name,
                       grouped(teraflops(ceiling.rate))),
           13, top ? kInk : kPale, Anchor::kEnd);
      name_y += 19;
    }
  }

  enum class Mark { kRound, kSquare };

  /// One path; points on the same spot are drawn once. Round marks are strokes without length.
  void marks(const std::vector<RooflinePoint>& list, std::string_view colour, Mark mark) {
    const bool crowded = picture_.predicted.size() > 200;
    const double size = crowded ? 3 : 8;
    std::set<std::pair<long, long>> spots;  // tenths of a pixel
    for (const RooflinePoint& point : list) {
      spots.emplace(std::lround(10 * x_.at(point.intensity)),
                    std::lround(10 * y_.at(teraflops(point.rate))));
    }
    const double opacity = crowded ? 0.4 : 0.85;
    if (mark == Mark::kRound) {
      add("<path fill=\"none\" stroke=\"{}\" stroke-width=\"{:g}\" stroke-opacity=\"{:g}\" "
          "stroke-linecap=\"round\" d=\"",
          colour, size, opacity);
    } else {
      add("<path fill=\"{}\" fill-opacity=\"{:g}\" d=\"", colour, opacity);
    }
    for (const auto& [x, y] : spots) {
      const double left = static_cast<double>(x) / 10;
      const double top = static_cast<double>(y) / 10;
      if (mark == Mark::kRound) {
        add("M{:.1f} {:.1f}h0", left, top);
      } else {
        add("M{:.1f} {:.1f}h{:g}v{:g}h-{:g}z", left - size / 2, top - size / 2, size, size, size);
      }
    }
    add("\"/>\n");
  }

  void points() {
    if (picture_.predicted.size() == 1 && picture_.measured.empty()) return;
    if (!picture_.measured.empty()) marks(picture_.measured, kBlue, Mark::kSquare);
    marks(picture_.predicted, kVermilion, Mark::kRound);
  }

  /// A single point: a large dot, how far the roof is above it, and its label.
  void mark_point() {
    const RooflinePoint& point = picture_.predicted.front();
    const double x = x_.at(point.intensity);
    const double y = y_.at(teraflops(point.rate));
    const double roof = std::min(picture_.ceilings.front().rate.count(),
                                 point.intensity * picture_.slopes.front().bandwidth.count());
    line(x, y, x, y_.at(roof / kTera), kVermilion, 1.5, "2 4");
    line(x, y, x, kBottom, kVermilion, 1, "1 5");
    if (picture_.second) mark_second(*picture_.second, x);
    add("<circle cx=\"{:.1f}\" cy=\"{:.1f}\" r=\"7\" fill=\"{}\" stroke=\"white\" "
        "stroke-width=\"2\"/>\n",
        x, y, kVermilion);
    constexpr double kLongestLabel = 250;
    constexpr double kLineHeight = 18;
    const bool to_the_left = x + kLongestLabel > kRight;
    const double height = kLineHeight * static_cast<double>(picture_.label.size());
    const double first = y + height + 20 < kBottom ? y + 30 : y - height;
    for (std::size_t i = 0; i < picture_.label.size(); ++i) {
      text(to_the_left ? x - 14 : x + 14, first + kLineHeight * static_cast<double>(i),
           picture_.label[i], 13, kInk, to_the_left ? Anchor::kEnd : Anchor::kStart, 0, i == 0);
    }
    if (!picture_.second) return;
    text(to_the_left ? x - 14 : x + 14, first + height,
         fmt::format("ring: by the bytes of {}", picture_.slopes.at(1).name), 13, kGreen,
         to_the_left ? Anchor::kEnd : Anchor::kStart);
  }

  /// A ring in the colour of the second slope, tied to the point itself.
  void mark_second(const RooflinePoint& second, double point_x) {
    const double x = x_.at(second.intensity);
    const double y = y_.at(teraflops(second.rate));
    constexpr double kRadius = 6;
    line(x + (x < point_x ? kRadius : -kRadius), y, point_x, y, kGreen, 1, "2 4");
    add("<circle cx=\"{:.1f}\" cy=\"{:.1f}\" r=\"{:g}\" fill=\"white\" stroke=\"{}\" "
        "stroke-width=\"2.5\"/>\n",
        x, y, kRadius, kGreen);
  }

  void legend() {
    if (picture_.predicted.size() == 1 && picture_.measured.empty()) return;
    double y = kTop + 24;
    const auto entry = [&](std::string_view name, std::string_view colour, double radius) {
      add("<rect x=\"{:.1f}\" y=\"{:.1f}\" width=\"9\" height=\"9\" rx=\"{:g}\" fill=\"{}\"/>\n",
          kLeft + 16, y - 9, radius, colour);
      text(kLeft + 34, y, name, 13, kInk);
      y += 22;
    };
    entry("predicted", kVermilion, 4.5);
    if (!picture_.measured.empty()) entry("measured", kBlue, 0);
  }

  const RooflinePicture& picture_;
  Axis x_;
  Axis y_;
};

}  // namespace

std::string roofline_svg(const RooflinePicture& picture) {
  PIPECAST_ASSERT(!picture.slopes.empty() && !picture.ceilings.empty() &&
                  !picture.predicted.empty());
  return Drawing(picture).draw();
}

}  // namespace pipecast
