#include "trace.hpp"

#include <array>
#include <fstream>
#include <sstream>
#include <stdexcept>

namespace pipecast::testing {

namespace {

std::int64_t whole(const std::string& cell) { return cell.empty() ? 0 : std::stoll(cell); }

}  // namespace

std::vector<TraceRow> read_trace() {
  std::ifstream file(PIPECAST_SOURCE_DIR "/traces/h800_dualpipe_chunk/kernels.csv");
  std::string line;
  if (!std::getline(file, line)) throw std::runtime_error("the trace is missing");
  std::vector<TraceRow> rows;
  while (std::getline(file, line)) {
    std::istringstream cells(line);
    std::array<std::string, 11> cell;
    for (std::string& c : cell) std::getline(cells, c, ',');
    rows.push_back({std::stoi(cell[0]), cell[1], cell[2], cell[3], cell[4], whole(cell[5]),
                    whole(cell[6]), whole(cell[7]), whole(cell[8]), std::stod(cell[10])});
  }
  return rows;
}

}  // namespace pipecast::testing
