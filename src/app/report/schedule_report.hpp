/// What `pipecast schedule` tells about schedules.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "app/schedule/schedule_study.hpp"

namespace pipecast {

/// What one count of a schedule's times is shown as.
struct ScheduleUnit {
  std::string name = "ticks";
  double per_count = 1;
};

/// A kind of a comparison: its study, or why there is none.
struct ComparedSchedule {
  std::string kind;
  std::optional<ScheduleStudy> study{};
  std::string reason{};
};

/// A table by rank below a line on the whole.
std::string schedule_text(const ScheduleStudy& study, const ScheduleUnit& unit);
nlohmann::ordered_json schedule_json(const ScheduleStudy& study, const ScheduleUnit& unit);

/// A line for each kind.
std::string comparison_text(const std::vector<ComparedSchedule>& rows, const ScheduleUnit& unit);
nlohmann::ordered_json comparison_json(const std::vector<ComparedSchedule>& rows,
                                       const ScheduleUnit& unit);

}  // namespace pipecast
