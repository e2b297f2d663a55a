/// Training with AdamW whose moments are stored in a small format, beside the same with exact ones.
#pragma once

#include <cstdint>
#include <vector>

#include "kernels/numbers/small_float.hpp"

namespace pipecast::kernels {

/// A network of one hidden layer learns from another of the same shape, with noise: each step sees
/// a batch of random inputs and the teacher's outputs. Weights and gradients are FP64, so that the
/// moments' format is all that differs.
struct MomentsCase {
  SmallFloat format{};
  double beta2{};  ///< of the second moment; DeepSeek-V3 trains with 0.95
  double learning_rate{};
  std::vector<int> checkpoints{};  ///< training steps, ascending, after which to measure
  std::uint64_t seed{};
};

struct MomentsCheckpoint {
  double divergence = 0;  ///< of the weights from those with exact moments, over the distance that
                          ///< these have gone from the beginning
  double loss = 0;        ///< on inputs of its own, without noise
  double exact_loss = 0;  ///< the same with exact moments
  double second_moment = 0;  ///< stored over exact, mean of the weights
};

/// One entry for each checkpoint.
std::vector<MomentsCheckpoint> moments_error(const MomentsCase& the_case);

}  // namespace pipecast::kernels
