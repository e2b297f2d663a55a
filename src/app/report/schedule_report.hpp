/// What `pipecast schedule` tells about schedules.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "app/report/schedule_picture.hpp"
#include "app/schedule/schedule_study.hpp"

namespace pipecast {

/// A kind of a comparison: its study, or why there is none.
struct ComparedSchedule {
  std::string kind;
  std::optional<ScheduleStudy> study{};
  std::string reason{};
};

/// A table by rank below a line on the whole.
std::string schedule_text(const ScheduleStudy& study, const TimeUnit& unit);
nlohmann::ordered_json schedule_json(const ScheduleStudy& study, const TimeUnit& unit);

/// A panel for each kind that is possible. The rows must outlive the picture.
SchedulePicture schedule_picture(const std::vector<ComparedSchedule>& rows, const TimeUnit& unit);

/// A line for each kind.
std::string comparison_text(const std::vector<ComparedSchedule>& rows, const TimeUnit& unit);
nlohmann::ordered_json comparison_json(const std::vector<ComparedSchedule>& rows,
                                       const TimeUnit& unit);

}  // namespace pipecast
