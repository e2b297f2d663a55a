/// Random tensors, and gradients by central differences to hold the references' own against.
#pragma once

#include <functional>
#include <string_view>

#include "base/random.hpp"
#include "kernels/reference/matrix.hpp"

namespace pipecast::kernels::reference {

/// Normal with mean 0 and variance 1, other numbers for every name.
Matrix random_matrix(std::string_view name, Index rows, Index columns);
Vector random_vector(std::string_view name, Index length);

/// sum(a b): a loss whose gradient over a is b.
double weighted_sum(const Matrix& a, const Matrix& b);

/// Slope of the loss over each element of x, from both sides of it; x is as before afterwards. The
/// error is of the order of the square of the step, 1e-10, and of 1e-16 over the step, 1e-11.
Matrix slopes(Matrix& x, const std::function<double()>& loss);
Matrix slopes(Vector& x, const std::function<double()>& loss);

/// Largest difference between elements over the largest element of `expected` (or 1).
double relative_error(const Matrix& actual, const Matrix& expected);

inline constexpr double kSlopeTolerance = 1e-8;
inline constexpr double kSame = 1e-13;  // of sums of a few hundred FP64 terms in another order

}  // namespace pipecast::kernels::reference
