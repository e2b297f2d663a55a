#include "kernels/reference/optimizer.hpp"

#include <algorithm>
#include <cmath>

#include "base/error.hpp"

namespace pipecast::kernels::reference {
namespace {

constexpr double kClippingEpsilon = 1e-6;  // PyTorch, torch/nn/utils/clip_grad.py

}  // namespace

AdamWState adamw_step(const AdamWState& state, const Vector& gradient,
                      const AdamWSettings& settings, Index step, const MomentRounding& rounding) {
  const Index size = state.parameters.size();
  require_length("gradient", gradient, size);
  require_length("first moment", state.first_moment, size);
  require_length("second moment", state.second_moment, size);
  require(step >= 1, "AdamW's steps count from 1, not {}", step);
  const double first_share = 1 - std::pow(settings.beta1, static_cast<double>(step));
  const double second_share = 1 - std::pow(settings.beta2, static_cast<double>(step));
  AdamWState next = state;
  for (Index i = 0; i < size; ++i) {
    const double first =
        settings.beta1 * state.first_moment(i) + (1 - settings.beta1) * gradient(i);
    const double second =
        settings.beta2 * state.second_moment(i) + (1 - settings.beta2) * gradient(i) * gradient(i);
    const double direction =
        first / first_share / (std::sqrt(second / second_share) + settings.epsilon);
    next.parameters(i) -=
        settings.learning_rate * (direction + settings.weight_decay * state.parameters(i));
    next.first_moment(i) = rounding ? rounding(first) : first;
    next.second_moment(i) = rounding ? rounding(second) : second;
  }
  return next;
}

double gradient_norm(const std::vector<Vector>& gradients) {
  double sum = 0;
  for (const Vector& gradient : gradients) sum += gradient.squaredNorm();
  return std::sqrt(sum);
}

double clipping_factor(double norm, double largest_norm) {
  require(largest_norm > 0, "gradients clipped to a norm of {}", largest_norm);
  return std::min(1.0, largest_norm / (norm + kClippingEpsilon));
}

}  // namespace pipecast::kernels::reference
