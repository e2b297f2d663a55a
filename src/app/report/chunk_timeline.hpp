/// Streams of a chunk over time, in letters.
#pragma once

#include <string>
#include <vector>

#include "app/chunk/chunk_measures.hpp"
#include "app/report/chunk_report.hpp"

namespace pipecast {

/// A line per stream that has launches; each letter is the phase that is busy for most of its time,
/// '-' a notify kernel, '.' idle for most of it.
/// @param range  what the width stands for
std::string timeline_text(const std::vector<TraceRow>& rows, const BusyInterval& range,
                          const TextStyle& style);

/// Milliseconds below timelines of the same range and width.
std::string timeline_axis(const BusyInterval& range, const TextStyle& style);

/// What the letters of these rows mean.
std::string timeline_legend(const std::vector<TraceRow>& rows, const TextStyle& style);

/// From the first start to the last end.
BusyInterval range_of(const std::vector<TraceRow>& rows);

/// The smallest of 1, 2 and 5 times a power of ten of which at most `most` fit into a length.
double tick_step(double length, double most);

}  // namespace pipecast
