#include "app/report/chunk_svg.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>

#include "app/report/chunk_timeline.hpp"
#include "app/report/phase_style.hpp"
#include "app/report/svg.hpp"

namespace pipecast {

namespace {

// Pixels.
constexpr double kWidth = 1280;
constexpr double kLeft = 112;
constexpr double kRight = 1252;
constexpr double kTop = 92;
constexpr double kRow = 44;
constexpr double kRowGap = 8;
constexpr double kPanelName = 26;
constexpr double kPanelGap = 18;
constexpr double kLegend = 96;
constexpr double kMicrosecondsPerMillisecond = 1e3;
constexpr std::string_view kNotifyColour = "#BBBBBB";

/// Kernels of a stream that follow one another with the same looks.
struct Box {
  Phase phase{};
  bool notify = false;
  int layer = 0;
  double start = 0;
  double end = 0;
};

class Drawing : private SvgCanvas {
 public:
  explicit Drawing(const TimelinePicture& picture) : picture_(picture) {
    for (const TimelinePanel& panel : picture.panels) {
      const BusyInterval range = range_of(panel.rows);
      start_ = picture.panels.size() > 1 ? 0 : range.start;
      end_ = std::max(end_, range.end);
    }
  }

  std::string draw() {
    const double bottom = bottom_of_rows();
    begin(kWidth, bottom + kLegend, picture_.title);
    text(kLeft, 40, picture_.title, 22, kInk, Anchor::kStart, 0, true);
    text(kLeft, 66, picture_.subtitle, 14, kPale);
    axis(bottom);
    double y = kTop;
    for (const TimelinePanel& panel : picture_.panels) y = draw_panel(panel, y);
    legend(bottom + 62);
    return finish();
  }

 private:
  static std::vector<std::string> streams_of(const TimelinePanel& panel) {
    std::vector<std::string> out;
    for (const Stream stream : {Stream::kCompute, Stream::kSide, Stream::kCommunication}) {
      const bool used = std::any_of(panel.rows.begin(), panel.rows.end(), [&](const TraceRow& row) {
        return row.stream == name_of(stream);
      });
      if (used) out.emplace_back(name_of(stream));
    }
    return out;
  }

  [[nodiscard]] double bottom_of_rows() const {
    double y = kTop;
    for (const TimelinePanel& panel : picture_.panels) {
      if (!panel.name.empty()) y += kPanelName;
      y += (kRow + kRowGap) * static_cast<double>(streams_of(panel).size()) + kPanelGap;
    }
    return y - kPanelGap;
  }

  [[nodiscard]] double x_of(double us) const {
    return kLeft + (kRight - kLeft) * (us - start_) / (end_ - start_);
  }

  void axis(double bottom) {
    const double length = (end_ - start_) / kMicrosecondsPerMillisecond;
    constexpr double kTicks = 14;
    const double step = tick_step(length, kTicks);
    for (int tick = 0; tick * step <= length * (1 + 1e-9); ++tick) {
      const double x = x_of(start_ + tick * step * kMicrosecondsPerMillisecond);
      line(x, kTop, x, bottom, kGridLine, 1);
      text(x, bottom + 18, fmt::format("{:g}", tick * step), 13, kInk, Anchor::kMiddle);
    }
    text(kLeft - 14, bottom + 18, "ms", 13, kPale, Anchor::kEnd);
  }

  /// Joins what no eye could part.
  [[nodiscard]] std::vector<Box> boxes_of(const TimelinePanel& panel,
                                          const std::string& stream) const {
    const double least_gap = 0.6 * (end_ - start_) / (kRight - kLeft);
    std::vector<TraceRow> rows;
    for (const TraceRow& row : panel.rows) {
      if (row.stream == stream) rows.push_back(row);
    }
    std::stable_sort(rows.begin(), rows.end(),
                     [](const TraceRow& a, const TraceRow& b) { return a.start_us < b.start_us; });
    std::vector<Box> out;
    for (const TraceRow& row : rows) {
      const Box next{.phase = phase_of(row),
                     .notify = role_of(row) == LaunchRole::kNotify,
                     .layer = row.layer,
                     .start = row.start_us,
                     .end = row.start_us + row.duration_us};
      const bool joins = !out.empty() && out.back().phase == next.phase &&
                         out.back().notify == next.notify && out.back().layer == next.layer &&
                         next.start - out.back().end < least_gap;
      if (joins) {
        out.back().end = std::max(out.back().end, next.end);
      } else {
        out.push_back(next);
      }
    }
    return out;
  }

  double draw_panel(const TimelinePanel& panel, double y) {
    if (!panel.name.empty()) {
      text(kLeft, y + 17, panel.name, 15, kInk, Anchor::kStart, 0, true);
      y += kPanelName;
    }
    for (const std::string& stream : streams_of(panel)) {
      text(kLeft - 14, y + kRow / 2 + 5, stream, 14, kInk, Anchor::kEnd);
      for (const Box& b : boxes_of(panel, stream)) draw_box(b, y);
      y += kRow + kRowGap;
    }
    return y + kPanelGap;
  }

  void draw_box(const Box& b, double y) {
    const PhaseStyle style = style_of(b.phase);
    const double x = x_of(b.start);
    const double width = x_of(b.end) - x;
    box(x, y, std::max(width, 0.2), kRow, b.notify ? kNotifyColour : style.rgb);
    constexpr double kLetter = 13;
    if (b.notify || width < kLetter) return;
    label(x + width / 2, y + kRow / 2 + 5, std::string(1, style.letter), 14, ink_on(style));
  }

  /// White on the dark ones of the colours.
  static std::string_view ink_on(const PhaseStyle& style) {
    const bool dark = style.rgb == kBlue || style.rgb == kVermilion || style.rgb == kGreen;
    return dark ? "white" : kInk;
  }

  void legend(double y) {
    std::array<bool, kPhases> used{};
    bool notify = false;
    for (const TimelinePanel& panel : picture_.panels) {
      for (const TraceRow& row : panel.rows) {
        used[static_cast<std::size_t>(phase_of(row))] = true;
        notify = notify || role_of(row) == LaunchRole::kNotify;
      }
    }
    double x = kLeft;
    const auto entry = [&](std::string_view colour, std::string_view letter, std::string_view name,
                           std::string_view ink) {
      constexpr double kSwatch = 20;
      constexpr double kLetterWidth = 7.2;
      box(x, y - 15, kSwatch, kSwatch, colour);
      label(x + kSwatch / 2, y, letter, 13, ink);
      text(x + kSwatch + 6, y, name, 13, kInk);
      x += kSwatch + 24 + kLetterWidth * static_cast<double>(name.size());
    };
    for (std::size_t p = 0; p < kPhases; ++p) {
      const auto phase = static_cast<Phase>(p);
      const PhaseStyle style = style_of(phase);
      if (used[p]) entry(style.rgb, std::string(1, style.letter), name_of(phase), ink_on(style));
    }
    if (notify) entry(kNotifyColour, "", "notify", kInk);
  }

  const TimelinePicture& picture_;
  double start_ = 0;
  double end_ = 0;
};

}  // namespace

TimelinePicture timeline_picture(const ChunkAnswer& answer) {
  const Scenario& s = answer.scenario;
  TimelinePicture out{.title = fmt::format("{} on {}: {:.1f} ms", s.name, s.cluster.gpu.name,
                                           answer.measures.time_us / kMicrosecondsPerMillisecond),
                      .subtitle = fmt::format("{}, {} of {} SMs for communication",
                                              description_of(answer.run.shape),
                                              s.plan.communication_sms, s.cluster.gpu.sm_count),
                      .panels = {{answer.measured ? "predicted" : "", answer.rows}}};
  if (answer.measured) {
    const double measured = answer.measured->comparison.measured.time_us;
    out.title += fmt::format(", measured {:.1f} ms", measured / kMicrosecondsPerMillisecond);
    out.panels.push_back({"measured", answer.measured->rows});
  }
  return out;
}

std::string timeline_svg(const TimelinePicture& picture) { return Drawing(picture).draw(); }

}  // namespace pipecast
