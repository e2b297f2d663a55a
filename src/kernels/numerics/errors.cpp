#include "kernels/numerics/errors.hpp"

#include <algorithm>
#include <cmath>

namespace pipecast::kernels {

void ErrorSums::add(double actual, double expected) {
  const double error = std::abs(actual - expected);
  ++count_;
  magnitudes_ += std::abs(expected);
  squares_ += expected * expected;
  squared_errors_ += error * error;
  largest_error_ = std::max(largest_error_, error);
  if (expected != 0) largest_relative_ = std::max(largest_relative_, error / std::abs(expected));
}

void ErrorSums::merge(const ErrorSums& other) {
  count_ += other.count_;
  magnitudes_ += other.magnitudes_;
  squares_ += other.squares_;
  squared_errors_ += other.squared_errors_;
  largest_error_ = std::max(largest_error_, other.largest_error_);
  largest_relative_ = std::max(largest_relative_, other.largest_relative_);
}

ErrorMeasures ErrorSums::measures() const {
  if (magnitudes_ == 0) return {};
  return {.largest_over_mean = largest_error_ * static_cast<double>(count_) / magnitudes_,
          .relative_rms = std::sqrt(squared_errors_ / squares_),
          .largest_relative = largest_relative_};
}

}  // namespace pipecast::kernels
