/// What the drawings of timed schedules have in common.
#pragma once

#include <array>
#include <cstddef>
#include <string>
#include <vector>

#include "base/units.hpp"
#include "model/schedules/schedule.hpp"
#include "model/schedules/timing.hpp"

namespace pipecast {

/// One timed schedule: a row for each of its ranks.
struct SchedulePanel {
  std::string title;  ///< above its rows; may be empty
  const Schedule& schedule;
  const ScheduleTiming& timing;
};

/// What times are told in.
struct TimeUnit {
  std::string name = "ticks";
  double per_picosecond = 1;
};

struct SchedulePicture {
  std::string title{};
  std::string subtitle{};
  std::vector<SchedulePanel> panels{};  ///< at least one; all on one time axis, from 0 on
  TimeUnit unit{};
};

/// Where the time axis ends: the last of the makespans, and never at 0.
Time end_of(const SchedulePicture& picture);

inline constexpr std::size_t kPassKinds = 4;
constexpr std::size_t index_of(Pass pass) { return static_cast<std::size_t>(pass); }

/// What a legend has to explain.
struct LooksUsed {
  /// [pass][lane]: of single steps and of both halves of pairs.
  std::array<std::vector<bool>, kPassKinds> lanes;
  std::array<bool, kPassKinds> singles{};  ///< of steps that are no pairs
  std::size_t most_lanes = 1;              ///< of a panel
  std::string lane_name;                   ///< "direction", "chunk" or both
  bool pairs = false;
};
LooksUsed looks_of(const SchedulePicture& picture);

/// A busy part of a row that is divided into cells.
struct Stretch {
  std::size_t first = 0;       ///< cell
  std::size_t last = 0;        ///< the cell after it
  const Step* step = nullptr;  ///< whose looks it has
  bool alone = false;          ///< it shows this one step, which is at least a cell long
};

/// Divides the time from 0 to `end` into equal cells. A cell shows the step that runs in its middle
/// if that step is at least a cell long, otherwise the looks that take most of the cell's time.
/// Cells that are idle for more than half of it are left out.
/// @param steps, times  of one rank
std::vector<Stretch> stretches_of(const std::vector<Step>& steps,
                                  const std::vector<StepTime>& times, Time end, std::size_t cells);

/// Without the digits that a tick or a duration in `unit` does not have: "1,200", "0.35".
std::string time_text(double value);

}  // namespace pipecast
