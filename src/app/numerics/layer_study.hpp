/// A reduced layer with experts over precision recipes and outliers of its input.
#pragma once

#include "app/numerics/numerics_table.hpp"
#include "kernels/numerics/fp8_recipe.hpp"

namespace pipecast {

struct LayerStudyRequest {
  std::vector<ListedValue<kernels::PrecisionRecipe>> recipe;
  std::vector<ListedValue<double>> outliers;
  std::vector<ListedValue<double>> factor;
  int tokens = 0;
  int hidden = 0;
  int experts = 0;
  std::uint64_t seed = 0;
  int threads = 1;
  NumericsProgress progress;
};

/// The same to the last bit on any number of threads.
/// @throws Error as LayerErrorStudy
NumericsTable study_layer(const LayerStudyRequest& request);

}  // namespace pipecast
