/// Timed schedules as self-contained SVG.
#pragma once

#include <string>

#include "app/report/schedule_picture.hpp"

namespace pipecast {

/// A row a rank: boxes with the numbers of their micro-batches, coloured by pass and, from light to
/// dark, by direction or chunk; pairs are two bars in a frame. Schedules of very many passes are
/// drawn without numbers, on a grid of half a pixel or coarser, so that the file stays below 2 MB.
/// The boxes are in groups of the class "passes" (or "dense"), the frames in "pairs", the numbers
/// in "numbers".
std::string schedule_svg(const SchedulePicture& picture);

}  // namespace pipecast
