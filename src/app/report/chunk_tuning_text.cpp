#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "app/report/chunk_report.hpp"
#include "app/report/phase_style.hpp"
#include "app/report/table.hpp"

namespace pipecast {

namespace {

double milliseconds_of(Duration time) { return to_microseconds(time) / 1e3; }

double over(Duration time, Duration best) {
  return static_cast<double>(time.count()) / static_cast<double>(best.count()) - 1;
}

/// A star where a time stands between the best and half as much again; beyond it an arrow.
std::string mark(Duration time, Duration best, std::size_t width) {
  constexpr double kShown = 0.5;
  const double share = over(time, best) / kShown;
  if (share > 1) return std::string(width - 1, ' ') + ">";
  return std::string(static_cast<std::size_t>(std::lround(share * static_cast<double>(width - 1))),
                     ' ') +
         "*";
}

/// Numbers orders as they first appear in the curve.
class Orders {
 public:
  std::size_t number_of(const PhaseOrder& order) {
    const auto it = std::find(seen_.begin(), seen_.end(), order);
    if (it != seen_.end()) return static_cast<std::size_t>(it - seen_.begin()) + 1;
    seen_.push_back(order);
    return seen_.size();
  }
  [[nodiscard]] std::string text() const {
    std::string out;
    for (std::size_t i = 0; i < seen_.size(); ++i) {
      out += fmt::format("order {}: {}\n", i + 1, order_text(seen_[i]));
    }
    return out;
  }

 private:
  std::vector<PhaseOrder> seen_;
};

std::string point_text(const TuningPoint& point) {
  return fmt::format("{:.2f} ms with {} SMs", milliseconds_of(point.time), point.communication_sms);
}

}  // namespace

std::string order_text(const PhaseOrder& order) {
  std::string out;
  for (const Phase phase : order) {
    out += fmt::format("{}{}", out.empty() ? "" : " ", name_of(phase));
  }
  return out;
}

std::string tuning_text(const TuningAnswer& answer, const TextStyle& style) {
  const ChunkTuning& tuning = answer.tuning;
  const bool pair = answer.shape.kind == ChunkKind::kOverlapped;
  std::string out = fmt::format("{}: {} on {}\n", answer.scenario.name,
                                description_of(answer.shape), answer.scenario.cluster.gpu.name);
  out += peers_text(answer.peers_late);
  out += fmt::format("\nbest    {}\n", point_text(tuning.best));
  out += fmt::format("plan    {}: {:+.1f} %\n", point_text(tuning.plan),
                     100 * over(tuning.plan.time, tuning.best.time));
  out += fmt::format("engine  {:.2f} ms with no SMs, tokens moved beside them: {:+.1f} %\n\n",
                     milliseconds_of(tuning.engine.time),
                     100 * over(tuning.engine.time, tuning.best.time));

  Orders orders;
  constexpr std::size_t kOtherColumns = 36;
  const std::size_t width = std::max<std::size_t>(style.width, kOtherColumns + 20) - kOtherColumns;
  std::vector<std::string> header = {"SMs", "ms", "over best"};
  if (pair) header.emplace_back("order");
  header.emplace_back("best to 1.5 times as long");
  Table table(header, {header.size() - 1});
  for (const TuningPoint& point : tuning.curve) {
    std::vector<std::string> cells = {
        std::to_string(point.communication_sms), fmt::format("{:.2f}", milliseconds_of(point.time)),
        fmt::format("{:.1f} %", 100 * over(point.time, tuning.best.time))};
    if (pair) cells.push_back(std::to_string(orders.number_of(point.order)));
    cells.push_back(mark(point.time, tuning.best.time, width));
    table.add(std::move(cells));
  }
  out += table.text();
  if (pair) {
    out += fmt::format("\n{} orders tried for each number of SMs; the best ones:\n{}",
                       tuning.orders, orders.text());
  }
  return out;
}

}  // namespace pipecast
