/// Traces in Chrome's JSON format, gzip-compressed, which Perfetto opens.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "base/units.hpp"

namespace pipecast {

/// A row of the picture: a thread of a process, in Chrome's words.
struct TraceTrack {
  int process = 0;
  int thread = 0;
  std::string process_name;
  std::string thread_name;
};

struct TraceSlice {
  int process = 0;
  int thread = 0;
  std::string name;
  std::string category;
  Time start;
  Time end;
};

/// What a quantity of a process is from a point in time on.
struct TraceCounter {
  int process = 0;
  std::string name;
  Time when;
  double value = 0;
};

/// Writes every slice as a begin and an end event, sorted by track and time, so that each track is
/// monotonic. Slices of one track must not overlap: that breaks an assertion. Times are
/// microseconds with six decimals, so no picosecond is lost. Counters follow in their order.
/// Written aside, then renamed.
/// @throws Error if the file cannot be written
void write_chrome_trace(const std::filesystem::path& path, const std::vector<TraceTrack>& tracks,
                        std::vector<TraceSlice> slices,
                        const std::vector<TraceCounter>& counters = {});

}  // namespace pipecast
