/// Timed schedules in letters.
#pragma once

#include <string>

#include "app/report/chunk_report.hpp"
#include "app/report/schedule_picture.hpp"

namespace pipecast {

/// A line a rank. A step fills the letters of its time: what it is and its micro-batch where there
/// is room ("F3--"), else only what it is. Upper case is direction or chunk 0 and all even ones,
/// lower case the odd ones. Where steps are shorter than a letter, it stands for those that take
/// most of its time. Dots are idle; behind the end of a panel's schedule its lines are blank.
/// @param style  at least 40 letters wide; a rank's line has exactly as many, no line has more
std::string schedule_ascii(const SchedulePicture& picture, const TextStyle& style);

}  // namespace pipecast
