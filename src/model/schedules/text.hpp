/// The text format of schedules: one line per rank, "rank 0: F0.0 F0.1&B1.0 Bi0.0 W0.0".
#pragma once

#include <string>
#include <string_view>

#include "model/schedules/schedule.hpp"

namespace pipecast {

/// One line per rank, each ended by a newline.
std::string to_text(const Schedule& schedule);

/// Reads the format back. Blank lines and lines that start with '#' are skipped; ranks come in
/// order from 0. The text does not place stages. One lane is a pipeline from rank 0 to the last;
/// two are the chunks of a V, of a loop over the ranks, or two directions: whichever ends the
/// schedule first. More are chunks of a loop. Whether the schedule makes sense is for
/// check_schedule to say.
/// @param source  what errors call the text, such as its file name
/// @throws Error "source:line:column: what is wrong and what was expected"
Schedule parse_schedule(std::string_view text, std::string_view source);

}  // namespace pipecast
