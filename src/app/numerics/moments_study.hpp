/// AdamW with stored moments over formats and decays.
#pragma once

#include "app/numerics/numerics_table.hpp"
#include "kernels/numbers/small_float.hpp"

namespace pipecast {

struct MomentsStudyRequest {
  std::vector<ListedValue<kernels::SmallFloat>> format;
  std::vector<ListedValue<double>> beta2;
  std::vector<ListedValue<int>> steps;
  double learning_rate = 0;
  std::uint64_t seed = 0;
  int threads = 1;
  NumericsProgress progress;
};

/// The same to the last bit on any number of threads.
NumericsTable study_moments(const MomentsStudyRequest& request);

}  // namespace pipecast
