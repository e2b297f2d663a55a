/// The fast sampler beside one that passes every token through the gate.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "model/routing/router.hpp"
#include "model/specs/scenario.hpp"

namespace pipecast {

/// One statistic of a micro-batch's loads.
struct ExactRow {
  std::string quantity;
  double exact = 0;   ///< of the tokens, each passed through the gate
  double fast = 0;    ///< mean of many draws of the fast sampler
  double spread = 0;  ///< standard deviation of those draws
};

/// Of one layer in the first micro-batch, both with the same popularity of experts and the same
/// biases. Without a capacity factor: tokens are counted before any are dropped.
struct ExactLayer {
  int layer = 0;
  std::vector<ExactRow> rows{};
};

/// @param layers    the first ones; > 0, at most the router's
/// @param progress  of 0 .. 1; may be empty
std::vector<ExactLayer> compare_exact(const ModelSpec& model, const Router& router, int layers,
                                      std::uint64_t seed,
                                      const std::function<void(double)>& progress);

}  // namespace pipecast
