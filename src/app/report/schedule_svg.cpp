#include "app/report/schedule_svg.hpp"

#include <algorithm>
#include <cmath>
#include <map>
#include <tuple>

#include "app/report/chunk_timeline.hpp"
#include "app/report/svg.hpp"
#include "app/report/table.hpp"

namespace pipecast {

namespace {

// Pixels.
constexpr double kWidth = 1280;
constexpr double kLeft = 92;
constexpr double kRight = 1252;
constexpr double kMargin = 24;
constexpr double kPanelName = 28;
constexpr double kPanelGap = 22;
constexpr double kRowsHeight = 900;  ///< that all rows share, within the limits of a row
constexpr double kLeastRow = 8;
constexpr double kMostRow = 32;
/// Upper estimates, in units of the font's size, of what the fonts named in SvgCanvas draw.
constexpr double kDigitWidth = 0.64;
constexpr double kLetterWidth = 0.6;
constexpr double kDigitHeight = 0.76;
constexpr double kPassPadding = 2;  ///< beside and above a number, together
constexpr int kLeastNumber = 7;
constexpr int kMostNumber = 12;

/// Passes up to which each is a box of its own, and up to which the boxes tell their times.
constexpr std::size_t kMostBoxes = 8'000;
constexpr std::size_t kMostTips = 4'000;
/// Stretches that a picture of more passes has at most, and how many of them there are in a pixel.
constexpr std::size_t kMostStretches = 60'000;
constexpr double kStretchesPerPixel = 2;

struct Colour {
  int red;
  int green;
  int blue;
};

std::string hex(const Colour& c) {
  return fmt::format("#{:02X}{:02X}{:02X}", c.red, c.green, c.blue);
}

struct PassColours {
  Colour first;  ///< lane 0
  Colour last;   ///< the last of several lanes
  std::string_view letters;
  std::string_view name;
};

/// Okabe and Ito's sky blue, blue, orange and green; vermilion and green darkened and tints of
/// their purple, so that any two stay apart for all kinds of colour blindness (simulated after
/// Machado et al. 2009: CIELAB distance 15 or more) and lanes in print without colours.
constexpr std::array<PassColours, kPassKinds> kPasses = {{
    {{0x56, 0xB4, 0xE9}, {0x00, 0x72, 0xB2}, "F", "forward"},
    {{0xE6, 0x9F, 0x00}, {0xC0, 0x4F, 0x00}, "B", "backward"},
    {{0xE8, 0xB5, 0xD3}, {0xA0, 0x40, 0x7F}, "Bi", "backward for input"},
    {{0x00, 0x9E, 0x73}, {0x00, 0x4B, 0x38}, "W", "backward for weights"},
}};

/// As WCAG 2.2 defines it.
double relative_luminance(const Colour& c) {
  const auto linear = [](int value) {
    const double share = value / 255.0;
    return share <= 0.04045 ? share / 12.92 : std::pow((share + 0.055) / 1.055, 2.4);
  };
  return 0.2126 * linear(c.red) + 0.7152 * linear(c.green) + 0.0722 * linear(c.blue);
}

/// White where its contrast is the better one: (1 + 0.05) / (l + 0.05) against (l + 0.05) / 0.05.
std::string_view ink_on(const Colour& c) {
  const double l = relative_luminance(c);
  return 1.05 * 0.05 > (l + 0.05) * (l + 0.05) ? "white" : kInk;
}

/// To a hundredth of a pixel.
double rounded(double pixels) { return std::round(pixels * 100) / 100; }

class Drawing : private SvgCanvas {
 public:
  explicit Drawing(const SchedulePicture& picture)
      : picture_(picture), looks_(looks_of(picture)), end_(end_of(picture)) {
    for (const SchedulePanel& panel : picture.panels) {
      rows_ += panel.schedule.ranks.size();
      for (std::size_t rank = 0; rank < panel.schedule.ranks.size(); ++rank) {
        const auto& steps = panel.schedule.ranks[rank];
        for (std::size_t i = 0; i < steps.size(); ++i) see(steps[i], panel.timing.steps[rank][i]);
      }
    }
    pitch_ = std::clamp(kRowsHeight / static_cast<double>(rows_), kLeastRow, kMostRow);
    pitch_ = std::floor(pitch_);
    row_ = pitch_ - (pitch_ < 16 ? 1 : 2);
    if (passes_ <= kMostBoxes) choose_number_size();
  }

  std::string draw() {
    const double top =
        kMargin + (picture_.title.empty() ? 0 : 28) + (picture_.subtitle.empty() ? 0 : 26);
    double bottom = top;
    for (const SchedulePanel& panel : picture_.panels) bottom += height_of(panel) + kPanelGap;
    bottom -= kPanelGap;
    constexpr double kAxis = 46;
    begin(kWidth, bottom + kAxis + legend_height(), picture_.title);
    double y = kMargin + 16;
    if (!picture_.title.empty()) {
      headline(y, picture_.title, 22, kInk, true);
      y += 26;
    }
    if (!picture_.subtitle.empty()) headline(y, picture_.subtitle, 14, kPale, false);
    y = top;
    for (const SchedulePanel& panel : picture_.panels) {
      draw_panel(panel, y);
      y += height_of(panel) + kPanelGap;
    }
    axis(bottom);
    legend(bottom + kAxis + 16);
    return finish();
  }

 private:
  struct Entry {
    std::vector<ChunkPass> swatches;  // none: a pair's frame
    std::string name;
  };

  void see(const Step& step, const StepTime& time) {
    passes_ += step.overlapped ? 2 : 1;
    const double width = x_of(time.end) - x_of(time.start);
    if (width <= 0) return;
    thinnest_ = std::min(thinnest_, width);
    if (step.overlapped) thinnest_pair_ = std::min(thinnest_pair_, width);
  }

  [[nodiscard]] double x_of(Time t) const {
    return kLeft +
           (kRight - kLeft) * static_cast<double>(t.count()) / static_cast<double>(end_.count());
  }
  [[nodiscard]] double in_units(Time t) const {
    return static_cast<double>(t.count()) * picture_.unit.per_picosecond;
  }

  [[nodiscard]] double height_of(const SchedulePanel& panel) const {
    return (panel.title.empty() ? 0 : kPanelName) +
           pitch_ * static_cast<double>(panel.schedule.ranks.size());
  }

  [[nodiscard]] Colour colour_of(const ChunkPass& pass) const {
    const PassColours& colours = kPasses[index_of(pass.pass)];
    const double last = static_cast<double>(looks_.most_lanes - 1);
    const double share = last > 0 ? pass.lane / last : 0;
    const auto mixed = [share](int from, int to) {
      return static_cast<int>(std::lround(from + (to - from) * share));
    };
    return {mixed(colours.first.red, colours.last.red),
            mixed(colours.first.green, colours.last.green),
            mixed(colours.first.blue, colours.last.blue)};
  }

  /// As large as the picture's width allows.
  void headline(double y, const std::string& content, int size, std::string_view colour,
                bool bold) {
    constexpr int kSmallest = 9;
    const double room =
        (kWidth - 2 * kMargin) / (kLetterWidth * static_cast<double>(content.size()));
    size = std::clamp(static_cast<int>(room), std::min(kSmallest, size), size);
    text(kMargin, y, content, size, colour, Anchor::kStart, 0, bold);
  }

  [[nodiscard]] static bool fits(int microbatch, double width, double height, int size) {
    const auto digits = static_cast<double>(std::to_string(microbatch).size());
    return digits * kDigitWidth * size + kPassPadding <= width &&
           kDigitHeight * size + kPassPadding <= height;
  }

  /// The largest size at which nearly as many numbers fit as at the smallest, so that all numbers
  /// of a picture are equally large.
  void choose_number_size() {
    std::vector<std::size_t> fitting(kMostNumber + 1);
    for (const SchedulePanel& panel : picture_.panels) {
      for (std::size_t rank = 0; rank < panel.schedule.ranks.size(); ++rank) {
        const auto& steps = panel.schedule.ranks[rank];
        for (std::size_t i = 0; i < steps.size(); ++i) {
          const StepTime& time = panel.timing.steps[rank][i];
          const double width = x_of(time.end) - x_of(time.start);
          for (int size = kLeastNumber; size <= kMostNumber; ++size) {
            const double height = steps[i].overlapped ? row_ / 2 : row_;
            if (!fits(steps[i].first.microbatch, width, height, size)) break;
            ++fitting[static_cast<std::size_t>(size)];
          }
        }
      }
    }
    constexpr double kNearly = 0.95;
    const double least = kNearly * static_cast<double>(fitting[kLeastNumber]);
    number_size_ = kMostNumber;
    while (number_size_ > kLeastNumber &&
           static_cast<double>(fitting[static_cast<std::size_t>(number_size_)]) < least) {
      --number_size_;
    }
  }

  void draw_panel(const SchedulePanel& panel, double y) {
    if (!panel.title.empty()) {
      headline(y + 17, panel.title, 15, kInk, true);
      y += kPanelName;
    }
    const std::size_t ranks = panel.schedule.ranks.size();
    const double bottom = y + pitch_ * static_cast<double>(ranks);
    grid(panel, y, bottom);
    constexpr double kLabelHeight = 12;
    const auto every = static_cast<std::size_t>(std::ceil(kLabelHeight / pitch_));
    for (std::size_t rank = 0; rank < ranks; rank += every) {
      const int size = pitch_ < 16 ? 10 : 13;
      text(kLeft - 12, y + pitch_ * static_cast<double>(rank) + row_ / 2 + 0.36 * size,
           fmt::format("rank {}", rank), size, kInk, Anchor::kEnd);
    }
    if (passes_ <= kMostBoxes) {
      boxes(panel, y);
      frames(panel, y);
      numbers(panel, y);
    } else {
      dense(panel, y);
    }
  }

  [[nodiscard]] double tick() const {
    const double end = in_units(end_);
    constexpr double kDigit = 7.6;
    constexpr double kGap = 24;
    const auto label = kDigit * static_cast<double>(time_text(end).size()) + kGap;
    constexpr double kMostTicks = 16;
    return tick_step(end, std::min(kMostTicks, (kRight - kLeft) / label));
  }

  template <class Draw>
  void for_ticks(Draw&& at) const {
    constexpr double kRounding = 1e-9;
    const double end = in_units(end_);
    const double step = tick();
    for (int n = 0; n * step <= end * (1 + kRounding); ++n) {
      at(kLeft + (kRight - kLeft) * n * step / end, n * step);
    }
  }

  /// Lines behind the rows, and where the schedule ends.
  void grid(const SchedulePanel& panel, double top, double bottom) {
    for_ticks([&](double x, double) { line(x, top - 2, x, bottom, kGridLine, 1); });
    const double end = x_of(panel.timing.makespan);
    line(end, top - 2, end, bottom, kPale, 1.5, "4 3");
  }

  void axis(double y) {
    line(kLeft, y + 1, kRight, y + 1, kPale, 1);
    for_ticks([&](double x, double value) {
      line(x, y + 1, x, y + 6, kPale, 1);
      text(x, y + 20, time_text(value), 13, kInk, Anchor::kMiddle);
    });
    text(kLeft - 12, y + 20, picture_.unit.name, 13, kPale, Anchor::kEnd);
  }

  /// Calls draw(pass, whose step, times, left, right, top, height) for every pass of a panel.
  template <class Draw>
  void for_passes(const SchedulePanel& panel, double y, Draw&& draw) const {
    for (std::size_t rank = 0; rank < panel.schedule.ranks.size(); ++rank) {
      const double top = y + pitch_ * static_cast<double>(rank);
      const auto& steps = panel.schedule.ranks[rank];
      for (std::size_t i = 0; i < steps.size(); ++i) {
        const StepTime& time = panel.timing.steps[rank][i];
        const double left = rounded(x_of(time.start));
        const double right = rounded(x_of(time.end));
        if (steps[i].overlapped) {
          draw(steps[i].first, time, left, right, top, row_ / 2);
          draw(steps[i].second, time, left, right, top + row_ / 2, row_ / 2);
        } else {
          draw(steps[i].first, time, left, right, top, row_);
        }
      }
    }
  }

  void boxes(const SchedulePanel& panel, double y) {
    // The white rim parts neighbours of one colour and leaves most of the thinnest box.
    constexpr double kRim = 1;
    constexpr double kRimShare = 0.2;
    add("<g class=\"passes\" stroke=\"white\" stroke-width=\"{:.2g}\">\n",
        std::min(kRim, kRimShare * thinnest_));
    for_passes(panel, y,
               [&](const ChunkPass& pass, const StepTime& time, double left, double right,
                   double top, double height) {
                 add("<rect x=\"{:.7g}\" y=\"{:g}\" width=\"{:.7g}\" height=\"{:g}\" fill=\"{}\"",
                     left, top, rounded(right - left), height, hex(colour_of(pass)));
                 if (passes_ > kMostTips) {
                   add("/>\n");
                 } else {
                   add("><title>{}, {} to {} {}</title></rect>\n", to_text(Step{.first = pass}),
                       time_text(in_units(time.start)), time_text(in_units(time.end)),
                       escaped(picture_.unit.name));
                 }
               });
    add("</g>\n");
  }

  void frames(const SchedulePanel& panel, double y) {
    if (!looks_.pairs) return;
    constexpr double kFrame = 1.2;
    constexpr double kFrameShare = 0.15;
    const double stroke = rounded(std::min(kFrame, kFrameShare * thinnest_pair_));
    add("<g class=\"pairs\" fill=\"none\" stroke=\"{}\" stroke-width=\"{:g}\">\n", kInk, stroke);
    for (std::size_t rank = 0; rank < panel.schedule.ranks.size(); ++rank) {
      const double top = y + pitch_ * static_cast<double>(rank);
      const auto& steps = panel.schedule.ranks[rank];
      for (std::size_t i = 0; i < steps.size(); ++i) {
        if (!steps[i].overlapped) continue;
        const StepTime& time = panel.timing.steps[rank][i];
        const double left = x_of(time.start) + stroke / 2;
        const double right = x_of(time.end) - stroke / 2;
        add("<rect x=\"{:.7g}\" y=\"{:.7g}\" width=\"{:.7g}\" height=\"{:.7g}\"/>\n", rounded(left),
            rounded(top + stroke / 2), std::max(0.0, rounded(right - left)),
            rounded(row_ - stroke));
      }
    }
    add("</g>\n");
  }

  void numbers(const SchedulePanel& panel, double y) {
    add("<g class=\"numbers\" font-size=\"{}\" text-anchor=\"middle\" fill=\"{}\">\n", number_size_,
        kInk);
    for_passes(panel, y,
               [&](const ChunkPass& pass, const StepTime&, double left, double right, double top,
                   double height) {
                 if (!fits(pass.microbatch, right - left, height, number_size_)) return;
                 const std::string_view ink = ink_on(colour_of(pass));
                 add("<text x=\"{:.7g}\" y=\"{:.7g}\"{}>{}</text>\n", rounded((left + right) / 2),
                     rounded(top + height / 2 + kDigitHeight / 2 * number_size_),
                     ink == kInk ? "" : fmt::format(" fill=\"{}\"", ink), pass.microbatch);
               });
    add("</g>\n");
  }

  /// Rows as lines as thick as they are high: the shortest way to write many boxes. A unit of x is
  /// a cell of the grid.
  void dense(const SchedulePanel& panel, double y) {
    const auto finest = static_cast<std::size_t>(kStretchesPerPixel * (kRight - kLeft));
    const std::size_t cells = std::min(finest, std::max(kMostStretches / rows_, std::size_t{1}));
    const double scale = (kRight - kLeft) / static_cast<double>(cells);
    for (std::size_t rank = 0; rank < panel.schedule.ranks.size(); ++rank) {
      const double middle = y + pitch_ * static_cast<double>(rank) + row_ / 2;
      add("<g class=\"dense\" fill=\"none\" transform=\"translate({:g} {:g}) scale({:g} 1)\">\n",
          kLeft, middle, scale);
      // Thickness, middle of the line, colour; what is drawn so.
      std::map<std::tuple<double, double, std::string>, std::string> paths;
      const auto draw = [&](const ChunkPass& pass, const Stretch& stretch, double thickness,
                            double at) {
        std::string& path = paths[{thickness, at, hex(colour_of(pass))}];
        const std::size_t length = stretch.last - stretch.first;
        constexpr double kParted = 3;  // pixels from which on a gap of half a pixel parts steps
        constexpr double kParting = 0.5;
        const bool parted = stretch.alone && static_cast<double>(length) * scale >= kParted;
        path += fmt::format("M{} {:g}h{:.7g}", stretch.first, at,
                            rounded(static_cast<double>(length) - (parted ? kParting / scale : 0)));
      };
      for (const Stretch& stretch :
           stretches_of(panel.schedule.ranks[rank], panel.timing.steps[rank], end_, cells)) {
        if (stretch.step->overlapped) {
          draw(stretch.step->first, stretch, row_ / 2, -row_ / 4);
          draw(stretch.step->second, stretch, row_ / 2, row_ / 4);
        } else {
          draw(stretch.step->first, stretch, row_, 0);
        }
      }
      for (const auto& [looks, path] : paths) {
        add("<path d=\"{}\" stroke=\"{}\" stroke-width=\"{:g}\"/>\n", path, std::get<2>(looks),
            std::get<0>(looks));
      }
      add("</g>\n");
    }
  }

  [[nodiscard]] std::vector<Entry> entries() const {
    std::vector<Entry> out;
    for (std::size_t kind = 0; kind < kPassKinds; ++kind) {
      Entry entry{.swatches = {}, .name = std::string(kPasses[kind].name)};
      for (std::size_t lane = 0; lane < looks_.lanes[kind].size(); ++lane) {
        if (!looks_.lanes[kind][lane]) continue;
        entry.swatches.push_back(
            {.pass = static_cast<Pass>(kind), .lane = static_cast<int>(lane), .microbatch = 0});
      }
      constexpr std::size_t kMostSwatches = 8;  // of more, the lightest and the darkest
      if (entry.swatches.size() > kMostSwatches) {
        entry.swatches = {entry.swatches.front(), entry.swatches.back()};
      }
      if (!entry.swatches.empty()) out.push_back(std::move(entry));
    }
    if (looks_.pairs) out.push_back({.swatches = {}, .name = "overlapped pair"});
    return out;
  }

  static constexpr double kSwatch = 24;
  static constexpr double kEntryGap = 28;
  static constexpr double kLegendLine = 30;

  static double width_of(const Entry& entry) {
    constexpr double kName = 7.6;
    const auto swatches = static_cast<double>(std::max<std::size_t>(1, entry.swatches.size()));
    return swatches * (kSwatch + 2) + 6 + kName * static_cast<double>(entry.name.size()) +
           kEntryGap;
  }

  /// Calls draw(entry, x, line) for each entry.
  template <class Draw>
  int for_entries(Draw&& draw) const {
    double x = kLeft;
    int line = 0;
    for (const Entry& entry : entries()) {
      if (x > kLeft && x + width_of(entry) - kEntryGap > kRight) {
        x = kLeft;
        ++line;
      }
      draw(entry, x, line);
      x += width_of(entry);
    }
    return line + 1;
  }

  [[nodiscard]] std::string note() const {
    std::string out;
    if (passes_ <= kMostBoxes) out += "Numbers are micro-batches. ";
    if (looks_.most_lanes > 1) {
      out += fmt::format("The number behind a letter is the {}. ", looks_.lane_name);
    }
    if (passes_ > kMostBoxes) {
      out += "Where several passes share a spot, it shows what takes most of its time. ";
    }
    return out + "Dashed line: end of the schedule.";
  }

  [[nodiscard]] double legend_height() const {
    const int lines = for_entries([](const Entry&, double, int) {});
    return lines * kLegendLine + 34;
  }

  void legend(double y) {
    const int lines = for_entries([&](const Entry& entry, double x, int row) {
      const double base = y + row * kLegendLine;
      constexpr double kHeight = 20;
      for (const ChunkPass& pass : entry.swatches) {
        const Colour colour = colour_of(pass);
        box(x, base - 15, kSwatch, kHeight, hex(colour));
        const std::string_view letters = kPasses[index_of(pass.pass)].letters;
        label(
            x + kSwatch / 2, base,
            looks_.most_lanes > 1 ? fmt::format("{}{}", letters, pass.lane) : std::string(letters),
            12, ink_on(colour));
        x += kSwatch + 2;
      }
      if (entry.swatches.empty()) {
        add("<rect x=\"{:g}\" y=\"{:g}\" width=\"{:g}\" height=\"{:g}\" fill=\"none\" "
            "stroke=\"{}\" stroke-width=\"1.2\"/>\n",
            x, base - 15, kSwatch, kHeight, kInk);
        line(x, base - 15 + kHeight / 2, x + kSwatch, base - 15 + kHeight / 2, kInk, 0.6);
        x += kSwatch + 2;
      }
      text(x + 4, base, entry.name, 13, kInk);
    });
    text(kLeft, y + lines * kLegendLine - 2, note(), 12, kPale);
  }

  const SchedulePicture& picture_;
  LooksUsed looks_;
  Time end_;
  std::size_t rows_ = 0;    // of all panels
  std::size_t passes_ = 0;  // of all panels
  double thinnest_ = kRight - kLeft;
  double thinnest_pair_ = kRight - kLeft;
  double pitch_ = kMostRow;  // from row to row
  double row_ = kMostRow;    // height of the boxes
  int number_size_ = kLeastNumber;
};

}  // namespace

std::string schedule_svg(const SchedulePicture& picture) { return Drawing(picture).draw(); }

}  // namespace pipecast
