/// Worked schedules: files with the rank lines of a schedule, and what they lead to in a header.
#pragma once

#include <catch2/catch.hpp>
#include <cstdint>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include "model/schedules/text.hpp"
#include "model/schedules/timing.hpp"

namespace pipecast {

/// The ticks in the headers.
inline constexpr PassDurations kWorkedTicks{.forward = Duration(10),
                                            .backward = Duration(30),
                                            .backward_input = Duration(18),
                                            .backward_weight = Duration(12),
                                            .overlapped = Duration(34)};

/// The numbers after "# <title>: " in a header.
inline std::vector<std::int64_t> worked_header(const std::string& text, const std::string& title) {
  const std::string start = "# " + title + ": ";
  const std::size_t from = text.find(start);
  REQUIRE(from != std::string::npos);
  std::istringstream line(text.substr(from + start.size(), text.find('\n', from) - from));
  std::vector<std::int64_t> out;
  for (std::int64_t value = 0; line >> value;) out.push_back(value);
  return out;
}

/// The schedule is that of tests/model/schedules/<kind>/<kind>_pp<ranks>_mb<microbatches>.txt,
/// token by token and tick by tick.
inline void require_worked(const Schedule& schedule, const std::string& kind, int ranks,
                           int microbatches) {
  std::ifstream file(std::string(PIPECAST_SOURCE_DIR) + "/tests/model/schedules/" + kind + "/" +
                     kind + "_pp" + std::to_string(ranks) + "_mb" + std::to_string(microbatches) +
                     ".txt");
  REQUIRE(file);
  std::stringstream content;
  content << file.rdbuf();
  const std::string text = content.str();

  const Schedule worked = parse_schedule(text, "worked");
  REQUIRE(text.find(to_text(schedule)) != std::string::npos);
  REQUIRE(worked.ranks == schedule.ranks);
  REQUIRE(worked.stage_of == schedule.stage_of);
  REQUIRE(worked.microbatches == schedule.microbatches);

  const ScheduleTiming timing = time_schedule(schedule, {{kWorkedTicks}, Duration{}});
  REQUIRE(timing.makespan.count() == worked_header(text, "makespan").at(0));
  std::vector<std::int64_t> finish;
  for (const Time end : timing.finish) finish.push_back(end.count());
  REQUIRE(finish == worked_header(text, "finish per rank"));
  const std::vector<std::int64_t> peaks(timing.peak_live_activations.begin(),
                                        timing.peak_live_activations.end());
  REQUIRE(peaks == worked_header(text, "peak live activations per rank (micro-batch chunks)"));
}

}  // namespace pipecast
