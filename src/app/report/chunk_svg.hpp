/// Streams of a chunk over time as a picture, and what a tuned one would take.
#pragma once

#include <string>
#include <vector>

#include "app/report/chunk_report.hpp"

namespace pipecast {

/// One record of a chunk in the picture: a row for each of its streams.
struct TimelinePanel {
  std::string name;
  std::vector<TraceRow> rows;
};

struct TimelinePicture {
  std::string title;
  std::string subtitle;
  std::vector<TimelinePanel> panels;  ///< at least one; all on one axis
};

/// The prediction, and what was measured below it.
TimelinePicture timeline_picture(const ChunkAnswer& answer);

/// Boxes are the phases of a layer, without the gaps that are too short to be seen.
std::string timeline_svg(const TimelinePicture& picture);

/// Time against communication SMs.
std::string tuning_svg(const TuningAnswer& answer);

}  // namespace pipecast
