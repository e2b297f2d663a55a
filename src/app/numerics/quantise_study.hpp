/// Tensors rounded to small formats over combinations of formats, tiles, scales and data.
#pragma once

#include "app/numerics/numerics_table.hpp"
#include "kernels/numerics/quantise_error.hpp"

namespace pipecast {

struct QuantiseStudyRequest {
  std::vector<ListedValue<kernels::SmallFloat>> format;
  std::vector<ListedValue<kernels::ScaleTile>> tile;
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
/// @throws Error for more numbers than memory should hold
NumericsTable study_quantise(const QuantiseStudyRequest& request);

}  // namespace pipecast
