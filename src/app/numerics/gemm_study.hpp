/// FP8 matrix products over combinations of extents, promotion, accumulator, scales and data.
#pragma once

#include "app/numerics/numerics_table.hpp"
#include "kernels/numerics/gemm_error.hpp"

namespace pipecast {

struct GemmStudyRequest {
  std::vector<ListedValue<int>> k;
  std::vector<ListedValue<int>> promotion;
  std::vector<ListedValue<int>> fraction_bits;
  std::vector<ListedValue<kernels::Fp8Kind>> format;
  std::vector<ListedValue<kernels::ScaleTile>> tile;
  std::vector<ListedValue<kernels::ScaleTile>> block;
  std::vector<ListedValue<kernels::ScaleKind>> scales;
  std::vector<ListedValue<kernels::Distribution>> distribution;
  std::vector<ListedValue<double>> outliers;
  std::vector<ListedValue<double>> factor;
  int rows = 0;
  int columns = 0;
  std::uint64_t seed = 0;
  int threads = 1;
  NumericsProgress progress;
};

/// The same to the last bit on any number of threads.
/// @throws Error as GemmErrorStudy, and for more numbers than memory should hold
NumericsTable study_gemm(const GemmStudyRequest& request);

}  // namespace pipecast
