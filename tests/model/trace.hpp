/// Reads traces/h800_dualpipe_chunk/kernels.csv.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace pipecast::testing {

struct TraceRow {
  int layer = 0;
  std::string phase;
  std::string stream;
  std::string op;
  std::string gemm;
  std::int64_t m = 0;
  std::int64_t n = 0;
  std::int64_t k = 0;
  std::int64_t grid_ctas = 0;
  double duration_us = 0;
};

std::vector<TraceRow> read_trace();

}  // namespace pipecast::testing
