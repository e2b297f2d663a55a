#include <algorithm>
#include <array>
#include <cmath>

#include "app/report/chunk_timeline.hpp"
#include "app/report/memory_report.hpp"
#include "app/report/svg.hpp"

namespace pipecast {

namespace {

// Pixels.
constexpr double kWidth = 1280;
constexpr double kLeft = 72;
constexpr double kRight = 1252;
constexpr double kHead = 104;  ///< title, subtitle and legend
constexpr double kFoot = 58;   ///< of the axis
constexpr double kPanelName = 26;
constexpr double kGap = 22;
constexpr double kOnePanel = 520;
constexpr double kSmallPanel = 150;
/// Columns that all panels have together: what keeps the file below 500 kB.
constexpr double kMostColumns = 4800;

double in_gigabytes(Bytes bytes) { return static_cast<double>(bytes.count()) / 1e9; }

/// What a rank holds in every column of pixels at the moment at which it holds most in it.
std::vector<MemoryTotals> columns_of(const StepMemory& memory, int rank, Duration step,
                                     std::size_t count) {
  std::vector<MemoryTotals> out(count);
  std::size_t last = 0;
  MemoryTotals held;
  memory.play(rank, [&](Time when, const MemoryTotals& totals) {
    const double share = static_cast<double>(when.count()) / static_cast<double>(step.count());
    const auto column =
        std::min(count - 1, static_cast<std::size_t>(share * static_cast<double>(count)));
    while (last < column) out[++last] = held;
    held = totals;
    if (totals.total() > out[column].total()) out[column] = totals;
  });
  while (last + 1 < count) out[++last] = held;
  return out;
}

class Drawing : private SvgCanvas {
 public:
  explicit Drawing(const MemoryAnswer& answer) : answer_(answer), memory_(answer.study.memory) {
    if (answer.rank) {
      ranks_ = {*answer.rank};
    } else {
      for (int rank = 0; rank < memory_.ranks(); ++rank) ranks_.push_back(rank);
    }
    const auto count = static_cast<double>(ranks_.size());
    across_ = ranks_.size() == 1 ? 1 : ranks_.size() <= 4 ? 2 : 4;
    down_ = (ranks_.size() + across_ - 1) / across_;
    const auto across = static_cast<double>(across_);
    panel_width_ = std::floor((kRight - kLeft - (across - 1) * kGap) / across);
    panel_height_ = ranks_.size() == 1 ? kOnePanel : kSmallPanel;
    pitch_ = std::ceil(std::max(1.0, panel_width_ * count / kMostColumns));
    Bytes most = answer.study.capacity;
    for (const int rank : ranks_) most = std::max(most, memory_.peak(rank).totals.total());
    constexpr double kRoom = 1.05;
    high_ = kRoom * in_gigabytes(most);
  }

  std::string draw() {
    const double height = kHead + static_cast<double>(down_) * (kPanelName + panel_height_) + kFoot;
    const std::string title = fmt::format("{}: memory over a step", answer_.scenario.name);
    begin(kWidth, height, title);
    text(kLeft, 40, title, 22, kInk, Anchor::kStart, 0, true);
    const StepForecast& step = answer_.study.step;
    text(kLeft, 64,
         fmt::format("GB by pipeline rank; {} micro-batches under {}; the dot is the peak, the "
                     "dashed line what a {} has for tensors, {:.1f} GB",
                     step.microbatches, step.schedule, answer_.scenario.cluster.gpu.name,
                     in_gigabytes(answer_.study.capacity)),
         14, kPale);
    legend();
    for (std::size_t i = 0; i < ranks_.size(); ++i) panel(i);
    text((kLeft + kRight) / 2, height - 12, "seconds of the step", 14, kInk, Anchor::kMiddle);
    return finish();
  }

 private:
  struct Panel {
    double left = 0;
    double top = 0;
  };

  [[nodiscard]] double y_of(const Panel& p, double gigabytes) const {
    return p.top + panel_height_ * (1 - gigabytes / high_);
  }
  [[nodiscard]] double x_of(const Panel& p, double seconds) const {
    return p.left + panel_width_ * seconds / to_seconds(answer_.study.step.times.time);
  }

  void legend() {
    double x = kLeft;
    for (std::size_t c = 0; c < kMemoryCategories; ++c) {
      const auto category = static_cast<MemoryCategory>(c);
      constexpr double kSwatch = 14;
      box(x, 78, kSwatch, kSwatch, colour_of(category));
      text(x + kSwatch + 6, 90, name_of(category), 14, kInk);
      x += 152;
    }
  }

  void panel(std::size_t index) {
    const std::size_t column = index % across_;
    const std::size_t row = index / across_;
    const Panel p{kLeft + static_cast<double>(column) * (panel_width_ + kGap),
                  kHead + kPanelName + static_cast<double>(row) * (panel_height_ + kPanelName)};
    const int rank = ranks_[index];
    const StepMemory::Peak& peak = memory_.peak(rank);
    const bool lowest = index + across_ >= ranks_.size();
    grid(p, column == 0, lowest);
    areas(p, rank);
    const double capacity = y_of(p, in_gigabytes(answer_.study.capacity));
    line(p.left, capacity, p.left + panel_width_, capacity, kInk, 1.5, "6 4");
    add("<circle cx=\"{:.1f}\" cy=\"{:.1f}\" r=\"3.5\" fill=\"{}\" stroke=\"white\"/>\n",
        x_of(p, to_seconds(peak.when)), y_of(p, in_gigabytes(peak.totals.total())), kInk);
    text(p.left, p.top - 6,
         fmt::format("rank {}: {:.1f} GB at {:.2f} s, {}", rank, in_gigabytes(peak.totals.total()),
                     to_seconds(peak.when), doing_at_peak(answer_.study, rank)),
         13, kInk, Anchor::kStart, 0, true);
  }

  void grid(const Panel& p, bool leftmost, bool lowest) {
    const double bottom = p.top + panel_height_;
    const double step = tick_step(high_, panel_height_ > kSmallPanel ? 10 : 5);
    for (int tick = 0; tick * step <= high_; ++tick) {
      const double y = y_of(p, tick * step);
      line(p.left, y, p.left + panel_width_, y, kGridLine, 1);
      if (leftmost) {
        text(p.left - 8, y + 4.5, fmt::format("{:g}", tick * step), 13, kInk, Anchor::kEnd);
      }
    }
    if (!lowest) return;
    const double seconds = to_seconds(answer_.study.step.times.time);
    const double wide = tick_step(seconds, panel_width_ / 60);
    for (int tick = 0; tick * wide <= seconds; ++tick) {
      const double x = x_of(p, tick * wide);
      line(x, bottom, x, bottom + 5, kInk, 1);
      text(x, bottom + 20, fmt::format("{:g}", tick * wide), 13, kInk, Anchor::kMiddle);
    }
  }

  /// From the whole down to the first category, each over the ones before.
  void areas(const Panel& p, int rank) {
    const auto count = static_cast<std::size_t>(std::floor(panel_width_ / pitch_));
    const std::vector<MemoryTotals> columns =
        columns_of(memory_, rank, answer_.study.step.times.time, count);
    std::vector<Bytes> heights(count);
    std::array<std::string, kMemoryCategories> paths;
    for (std::size_t c = 0; c < kMemoryCategories; ++c) {
      for (std::size_t i = 0; i < count; ++i) {
        heights[i] += columns[i].of(static_cast<MemoryCategory>(c));
      }
      paths[c] = outline(p, heights);
    }
    for (std::size_t c = kMemoryCategories; c-- > 0;) {
      add("<path d=\"{}\" fill=\"{}\"/>\n", paths[c], colour_of(static_cast<MemoryCategory>(c)));
    }
  }

  [[nodiscard]] std::string outline(const Panel& p, const std::vector<Bytes>& heights) const {
    const double bottom = p.top + panel_height_;
    std::string out = fmt::format("M{:g} {:g}", p.left, bottom);
    std::string last;
    for (std::size_t i = 0; i < heights.size(); ++i) {
      std::string y = fmt::format("{:.1f}", y_of(p, in_gigabytes(heights[i])));
      if (y == last) continue;
      const double x = p.left + pitch_ * static_cast<double>(i);
      out += i == 0 ? "V" + y : fmt::format("H{:g}V{}", x, y);
      last = std::move(y);
    }
    return out + fmt::format("H{:g}V{:g}Z", p.left + panel_width_, bottom);
  }

  const MemoryAnswer& answer_;
  const StepMemory& memory_;
  std::vector<int> ranks_;
  std::size_t across_ = 1;
  std::size_t down_ = 1;
  double panel_width_ = 0;
  double panel_height_ = 0;
  double pitch_ = 1;  // pixels of a column
  double high_ = 1;
};

}  // namespace

std::string_view colour_of(MemoryCategory category) {
  constexpr std::array<std::string_view, kMemoryCategories> kColours = {
      "#0072B2", "#56B4E9", "#009E73", "#E69F00", "#CC79A7", "#D55E00"};
  return kColours[static_cast<std::size_t>(category)];
}

std::string memory_svg(const MemoryAnswer& answer) { return Drawing(answer).draw(); }

}  // namespace pipecast
