#include "app/report/schedule_picture.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "app/report/table.hpp"

namespace pipecast {

namespace {

bool same_looks(const ChunkPass& a, const ChunkPass& b) {
  return a.pass == b.pass && a.lane == b.lane;
}

bool same_looks(const Step& a, const Step& b) {
  return a.overlapped == b.overlapped && same_looks(a.first, b.first) &&
         (!a.overlapped || same_looks(a.second, b.second));
}

/// The cells of one row, filled from left to right.
class Cells {
 public:
  explicit Cells(std::size_t count) : shown_(count) {}

  /// @param from, to  in cells
  void add(const Step& step, double from, double to) {
    const bool wide = to - from >= 1;
    const auto first = static_cast<std::size_t>(from);
    const auto last = static_cast<std::size_t>(to);
    tally(first, step, wide, std::min(to, static_cast<double>(first) + 1) - from);
    if (wide) {
      constexpr double kMiddle = 0.5;
      const auto begin = static_cast<std::size_t>(std::ceil(from - kMiddle));
      const auto end = static_cast<std::size_t>(std::ceil(to - kMiddle));
      for (std::size_t c = begin; c < std::min(end, shown_.size()); ++c) shown_[c] = {&step, true};
    }
    if (last > first) tally(last, step, wide, to - static_cast<double>(last));
  }

  std::vector<Stretch> stretches() {
    settle();
    std::vector<Stretch> out;
    for (std::size_t c = 0; c < shown_.size(); ++c) {
      const Shown& shown = shown_[c];
      if (shown.step == nullptr) continue;
      const bool joins =
          !out.empty() && out.back().last == c && out.back().alone == shown.alone &&
          (shown.alone ? out.back().step == shown.step : same_looks(*out.back().step, *shown.step));
      if (joins) {
        ++out.back().last;
      } else {
        out.push_back({c, c + 1, shown.step, shown.alone});
      }
    }
    return out;
  }

 private:
  struct Shown {
    const Step* step = nullptr;
    bool alone = false;
  };
  struct Share {
    const Step* step;
    bool wide;
    double time;  // in cells
  };

  void tally(std::size_t cell, const Step& step, bool wide, double time) {
    if (cell != current_) settle();
    current_ = cell;
    const auto same = std::find_if(shares_.begin(), shares_.end(), [&](const Share& share) {
      return !share.wide && !wide && same_looks(*share.step, step);
    });
    if (same != shares_.end()) {
      same->time += time;
    } else {
      shares_.push_back({&step, wide, time});
    }
  }

  /// Nothing more will be in the current cell.
  void settle() {
    double busy = 0;
    for (const Share& share : shares_) busy += share.time;
    constexpr double kMostly = 0.5;
    if (busy >= kMostly && current_ < shown_.size() && !shown_[current_].alone) {
      const auto most =
          std::max_element(shares_.begin(), shares_.end(),
                           [](const Share& a, const Share& b) { return a.time < b.time; });
      shown_[current_] = {most->step, most->wide};
    }
    shares_.clear();
  }

  std::vector<Shown> shown_;
  std::size_t current_ = 0;
  std::vector<Share> shares_;  // of the current cell
};

}  // namespace

Time end_of(const SchedulePicture& picture) {
  Time end(1);
  for (const SchedulePanel& panel : picture.panels) end = std::max(end, panel.timing.makespan);
  return end;
}

LooksUsed looks_of(const SchedulePicture& picture) {
  LooksUsed out;
  bool directions = false;
  bool chunks = false;
  for (const SchedulePanel& panel : picture.panels) {
    const auto lanes = static_cast<std::size_t>(panel.schedule.lanes());
    out.most_lanes = std::max(out.most_lanes, lanes);
    if (lanes > 1) (panel.schedule.paths() > 1 ? directions : chunks) = true;
  }
  out.lane_name = directions ? chunks ? "direction or chunk" : "direction" : "chunk";
  for (auto& lanes : out.lanes) lanes.resize(out.most_lanes);
  const auto see = [&](const ChunkPass& pass) {
    out.lanes[index_of(pass.pass)].at(static_cast<std::size_t>(pass.lane)) = true;
  };
  for (const SchedulePanel& panel : picture.panels) {
    for (const auto& steps : panel.schedule.ranks) {
      for (const Step& step : steps) {
        see(step.first);
        if (step.overlapped) {
          see(step.second);
          out.pairs = true;
        } else {
          out.singles[index_of(step.first.pass)] = true;
        }
      }
    }
  }
  return out;
}

std::vector<Stretch> stretches_of(const std::vector<Step>& steps,
                                  const std::vector<StepTime>& times, Time end, std::size_t cells) {
  Cells row(cells);
  const double scale = static_cast<double>(cells) / static_cast<double>(end.count());
  for (std::size_t i = 0; i < steps.size(); ++i) {
    row.add(steps[i], static_cast<double>(times[i].start.count()) * scale,
            static_cast<double>(times[i].end.count()) * scale);
  }
  return row.stretches();
}

std::string time_text(double value) {
  constexpr double kRounding = 1e-9;
  const bool whole = std::abs(value - std::round(value)) <= kRounding * std::max(1.0, value);
  return whole ? grouped(value) : fmt::format("{:.6g}", value);
}

}  // namespace pipecast
