/// AdamW (Loshchilov and Hutter 2019), gradient norm and clipping.
#pragma once

#include <functional>
#include <vector>

#include "kernels/reference/matrix.hpp"

namespace pipecast::kernels::reference {

/// DeepSeek-V3, section 4.2, but for the learning rate, which follows a schedule (its peak is
/// here); epsilon is PyTorch's.
struct AdamWSettings {
  double learning_rate = 2.2e-4;
  double beta1 = 0.9;
  double beta2 = 0.95;
  double epsilon = 1e-8;
  double weight_decay = 0.1;
};

struct AdamWState {
  Vector parameters{};
  Vector first_moment{};
  Vector second_moment{};
};

/// How a moment is stored, as the BF16 of DeepSeek-V3 (section 3.3.3).
using MomentRounding = std::function<double(double)>;

/// m = beta1 m + (1 - beta1) g, v = beta2 v + (1 - beta2) g^2,
/// w = w - rate (m / (1 - beta1^t) / (sqrt(v / (1 - beta2^t)) + epsilon) + decay w).
/// The parameters take the moments of this step before they are rounded; the next step finds them
/// rounded.
/// @param step      t, counted from 1
/// @param rounding  exact if empty
AdamWState adamw_step(const AdamWState& state, const Vector& gradient,
                      const AdamWSettings& settings, Index step,
                      const MomentRounding& rounding = {});

/// Euclidean norm over all the tensors together.
double gradient_norm(const std::vector<Vector>& gradients);

/// What gradients are multiplied with so that their norm is at most largest_norm:
/// min(1, largest_norm / (norm + 1e-6)), as PyTorch's clip_grad_norm_.
double clipping_factor(double norm, double largest_norm);

}  // namespace pipecast::kernels::reference
