#include <algorithm>
#include <array>
#include <cmath>

#include "app/report/routing_report.hpp"
#include "app/report/svg.hpp"
#include "app/report/table.hpp"

namespace pipecast {

namespace {

// Pixels.
constexpr double kWidth = 960;
constexpr double kLeft = 84;
constexpr double kRight = 928;
constexpr double kTop = 96;
constexpr double kMostCell = 40;
constexpr double kTallest = 640;
constexpr double kLegend = 300;
constexpr double kLegendHeight = 14;

struct Colour {
  double red;
  double green;
  double blue;
};
// From kBlue over white to kVermilion: a lightness of its own at each end, and no red against
// green.
constexpr Colour kBelow = {0x00, 0x72, 0xB2};
constexpr Colour kMean = {0xFF, 0xFF, 0xFF};
constexpr Colour kAbove = {0xD5, 0x5E, 0x00};

/// @param position  -1 .. 1
std::string colour_of(double position) {
  const Colour& end = position < 0 ? kBelow : kAbove;
  const double share = std::abs(position);
  const auto mixed = [share](double from, double to) {
    return static_cast<int>(std::lround(from + (to - from) * share));
  };
  return fmt::format("#{:02X}{:02X}{:02X}", mixed(kMean.red, end.red),
                     mixed(kMean.green, end.green), mixed(kMean.blue, end.blue));
}

/// Loads over the mean of their row.
using Grid = std::vector<std::vector<double>>;

Grid grid_of(const LoadStudy& study, HeatRows rows, HeatColumns columns) {
  Grid grid;
  const int count = rows == HeatRows::kLayers ? study.layers : study.micro_batches;
  for (int i = 0; i < count; ++i) {
    const GroupLoad& load = rows == HeatRows::kLayers ? study.draw(i, 0) : study.draw(0, i);
    const std::vector<float>& counts = columns == HeatColumns::kGpus ? load.rows : load.experts;
    std::vector<double>& cells = grid.emplace_back(counts.begin(), counts.end());
    double sum = 0;
    for (const double cell : cells) sum += cell;
    for (double& cell : cells) cell *= static_cast<double>(cells.size()) / sum;
  }
  return grid;
}

class HeatMap : private SvgCanvas {
 public:
  HeatMap(const RoutingAnswer& answer, HeatRows rows, HeatColumns columns)
      : answer_(answer),
        by_layer_(rows == HeatRows::kLayers),
        of_gpus_(columns == HeatColumns::kGpus),
        grid_(grid_of(answer.study.loads, rows, columns)) {
    cell_width_ = (kRight - kLeft) / static_cast<double>(grid_.front().size());
    cell_height_ = std::min(kMostCell, kTallest / static_cast<double>(grid_.size()));
    bottom_ = kTop + cell_height_ * static_cast<double>(grid_.size());
    constexpr double kFinest = 0.05;  // differences below are no pattern
    reach_ = kFinest;
    for (const auto& row : grid_) {
      for (const double cell : row) reach_ = std::max(reach_, std::abs(cell - 1));
    }
  }

  std::string draw() {
    begin(kWidth, bottom_ + 124, "Load over the mean of its row");
    const RoutingStudy& study = answer_.study;
    text(kLeft, 40,
         fmt::format("{}: load of {}, {} routing", answer_.scenario.name,
                     of_gpus_ ? "GPUs" : "experts", answer_.scenario.routing.distribution),
         22, kInk, Anchor::kStart, 0, true);
    const LayerLoads& loads = study.loads.all;
    text(kLeft, 66,
         fmt::format("{} of one group of {} GPUs; busiest over mean {:.2f} on average",
                     by_layer_ ? "First micro-batch" : "First layer", study.group.gpus,
                     (of_gpus_ ? loads.gpu : loads.expert).max_over_mean),
         14, kPale);
    cells();
    axes();
    legend();
    return finish();
  }

 private:
  void cells() {
    constexpr double kOverlap = 0.4;  // hides seams between cells
    for (std::size_t row = 0; row < grid_.size(); ++row) {
      for (std::size_t column = 0; column < grid_[row].size(); ++column) {
        box(kLeft + cell_width_ * static_cast<double>(column),
            kTop + cell_height_ * static_cast<double>(row), cell_width_ + kOverlap,
            cell_height_ + kOverlap, colour_of((grid_[row][column] - 1) / reach_));
      }
    }
    line(kLeft, kTop, kRight, kTop, kPale, 1);
    line(kLeft, bottom_, kRight, bottom_, kPale, 1);
    line(kLeft, kTop, kLeft, bottom_, kPale, 1);
    line(kRight, kTop, kRight, bottom_, kPale, 1);
  }

  /// Every how many of a row of cells a number stands.
  static std::size_t every(std::size_t count, double pixels) {
    for (std::size_t decade = 1;; decade *= 10) {
      for (const std::size_t digit : {1U, 2U, 5U}) {
        if (static_cast<double>(digit * decade) * pixels >= static_cast<double>(count))
          return digit * decade;
      }
    }
  }

  void axes() {
    constexpr double kColumnLabels = 24;
    constexpr double kLabelHeight = 20;
    const std::size_t columns = grid_.front().size();
    for (std::size_t c = 0; c < columns; c += every(columns, kColumnLabels)) {
      text(kLeft + cell_width_ * (static_cast<double>(c) + 0.5), bottom_ + 20, std::to_string(c),
           13, kInk, Anchor::kMiddle);
    }
    const std::size_t step = every(grid_.size(), (bottom_ - kTop) / kLabelHeight);
    for (std::size_t r = 0; r < grid_.size(); r += step) {
      text(kLeft - 10, kTop + cell_height_ * (static_cast<double>(r) + 0.5) + 4.5,
           std::to_string(r), 13, kInk, Anchor::kEnd);
    }
    text((kLeft + kRight) / 2, bottom_ + 46, of_gpus_ ? "GPU of the group" : "expert", 14, kInk,
         Anchor::kMiddle);
    text(26, (kTop + bottom_) / 2, by_layer_ ? "layer" : "micro-batch", 14, kInk, Anchor::kMiddle,
         -90);
  }

  void legend() {
    constexpr int kShades = 60;
    const double low = std::max(0.0, 1 - reach_);  // no load is below 0
    const double high = 1 + reach_;
    const double top = bottom_ + 66;
    const double left = kRight - kLegend;
    for (int i = 0; i < kShades; ++i) {
      box(left + kLegend * i / kShades, top, kLegend / kShades + 0.4, kLegendHeight,
          colour_of((low + (high - low) * i / (kShades - 1) - 1) / reach_));
    }
    for (const double load : {low, 1.0, high}) {
      text(left + kLegend * (load - low) / (high - low), top + 32, fmt::format("{:.2f}", load), 13,
           kInk,
           load < 1   ? Anchor::kStart
           : load > 1 ? Anchor::kEnd
                      : Anchor::kMiddle);
    }
    text(left - 14, top + 12, "pairs of token and expert, over the mean of the row", 13, kInk,
         Anchor::kEnd);
  }

  const RoutingAnswer& answer_;
  bool by_layer_;
  bool of_gpus_;
  Grid grid_;
  double cell_width_ = 0;
  double cell_height_ = 0;
  double bottom_ = 0;
  double reach_ = 0;
};

}  // namespace

std::string heat_map_svg(const RoutingAnswer& answer, HeatRows rows, HeatColumns columns) {
  return HeatMap(answer, rows, columns).draw();
}

}  // namespace pipecast
