#include <algorithm>
#include <cmath>

#include "app/report/chunk_svg.hpp"
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

double milliseconds_of(Duration time) { return to_microseconds(time) / 1e3; }

class Curve : private SvgCanvas {
 public:
  explicit Curve(const TuningAnswer& answer) : answer_(answer), tuning_(answer.tuning) {
    // From below everything up to half as much again as the best: few SMs take many times as long.
    const double best = milliseconds_of(tuning_.best.time);
    const double least = std::min(best, milliseconds_of(tuning_.engine.time));
    double longest = milliseconds_of(tuning_.plan.time);
    for (const TuningPoint& point : tuning_.curve) {
      longest = std::max(longest, milliseconds_of(point.time));
    }
    constexpr double kShown = 1.5;
    constexpr double kTicks = 8;
    longest = std::min(longest, kShown * best);
    step_ = tick_step(std::max(longest - least, 0.02 * best), kTicks);
    low_ = std::floor(least / step_ - 0.5) * step_;
    high_ = std::ceil(longest / step_) * step_;
    most_sms_ = std::max(tuning_.curve.back().communication_sms, tuning_.plan.communication_sms);
  }

  std::string draw() {
    const TuningPoint& best = tuning_.best;
    begin(kWidth, kHeight, "Time against communication SMs");
    text(kLeft, 40,
         fmt::format("{} on {}: {} communication SMs are best", answer_.scenario.name,
                     answer_.scenario.cluster.gpu.name, best.communication_sms),
         22, kInk, Anchor::kStart, 0, true);
    text(kLeft, 66, description_of(answer_.shape), 14, kPale);
    grid();
    engine();
    curve();
    plan();
    dot(best, kVermilion, 7);
    text(x_of(best.communication_sms), y_of(milliseconds_of(best.time)) + 26,
         fmt::format("best: {:.1f} ms", milliseconds_of(best.time)), 14, kVermilion,
         Anchor::kMiddle, 0, true);
    return finish();
  }

 private:
  [[nodiscard]] double x_of(double sms) const {
    return kLeft + (kRight - kLeft) * sms / (most_sms_ + 2);
  }
  [[nodiscard]] double y_of(double ms) const {
    return kBottom - (kBottom - kTop) * (ms - low_) / (high_ - low_);
  }

  void grid() {
    for (int tick = 0; low_ + tick * step_ <= high_ * (1 + 1e-9); ++tick) {
      const double value = low_ + tick * step_;
      line(kLeft, y_of(value), kRight, y_of(value), kGridLine, 1);
      text(kLeft - 10, y_of(value) + 4.5, fmt::format("{:g}", value), 13, kInk, Anchor::kEnd);
    }
    constexpr double kTicks = 10;
    const int every = std::max(2, static_cast<int>(tick_step(most_sms_, kTicks)));
    for (int sms = 0; sms <= most_sms_; sms += every) {
      line(x_of(sms), kTop, x_of(sms), kBottom, kGridLine, 1);
      text(x_of(sms), kBottom + 22, std::to_string(sms), 13, kInk, Anchor::kMiddle);
    }
    text((kLeft + kRight) / 2, kBottom + 50, "communication SMs", 14, kInk, Anchor::kMiddle);
    text(26, (kTop + kBottom) / 2, "ms", 14, kInk, Anchor::kMiddle, -90);
  }

  void engine() {
    const double ms = milliseconds_of(tuning_.engine.time);
    if (ms > high_) return;
    line(kLeft, y_of(ms), kRight, y_of(ms), kGreen, 2, "7 5");
    text(kRight - 6, y_of(ms) - 8, fmt::format("an engine beside the SMs: {:.1f} ms", ms), 13,
         kGreen, Anchor::kEnd);
  }

  /// What lies above the picture is left out.
  void curve() {
    const TuningPoint* previous = nullptr;
    for (const TuningPoint& point : tuning_.curve) {
      const double ms = milliseconds_of(point.time);
      if (ms > high_) continue;
      if (previous != nullptr) {
        line(x_of(previous->communication_sms), y_of(milliseconds_of(previous->time)),
             x_of(point.communication_sms), y_of(ms), kInk, 2);
      }
      previous = &point;
    }
    for (const TuningPoint& point : tuning_.curve) {
      if (milliseconds_of(point.time) <= high_) dot(point, kInk, 3.5);
    }
  }

  void dot(const TuningPoint& point, std::string_view colour, double radius) {
    add("<circle cx=\"{:.1f}\" cy=\"{:.1f}\" r=\"{:g}\" fill=\"{}\"/>\n",
        x_of(point.communication_sms), y_of(milliseconds_of(point.time)), radius, colour);
  }

  /// Its name stands above the curve, on the side where the curve falls.
  void plan() {
    const TuningPoint& point = tuning_.plan;
    if (milliseconds_of(point.time) > high_) return;
    dot(point, kBlue, 7);
    const bool right_of_best = point.communication_sms >= tuning_.best.communication_sms;
    text(x_of(point.communication_sms) + (right_of_best ? 6 : 12),
         y_of(milliseconds_of(point.time)) - 14,
         fmt::format("plan: {:.1f} ms", milliseconds_of(point.time)), 14, kBlue,
         right_of_best ? Anchor::kEnd : Anchor::kStart, 0, true);
  }

  const TuningAnswer& answer_;
  const ChunkTuning& tuning_;
  double step_ = 1;
  double low_ = 0;
  double high_ = 1;
  int most_sms_ = 0;
};

}  // namespace

std::string tuning_svg(const TuningAnswer& answer) { return Curve(answer).draw(); }

}  // namespace pipecast
