/// How far results are from what they should be.
#pragma once

#include <cstdint>

namespace pipecast::kernels {

struct ErrorMeasures {
  double largest_over_mean = 0;  ///< largest |error| over the mean magnitude of what is expected
  double relative_rms = 0;       ///< root of the summed squared errors over that of the expected
  double largest_relative = 0;   ///< largest |error / expected|, where something else than 0 is
                                 ///< expected
};

/// Sums over pairs of an actual and an expected value; sums over parts merge.
class ErrorSums {
 public:
  void add(double actual, double expected);
  void merge(const ErrorSums& other);
  [[nodiscard]] ErrorMeasures measures() const;

 private:
  std::int64_t count_ = 0;
  double magnitudes_ = 0;
  double squares_ = 0;
  double squared_errors_ = 0;
  double largest_error_ = 0;
  double largest_relative_ = 0;
};

}  // namespace pipecast::kernels
