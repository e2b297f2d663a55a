/// Sums and errors of kernels that were predicted and measured one by one.
#pragma once

#include <string>
#include <vector>

#include "app/validate/predictions.hpp"

namespace pipecast {

/// Kernels with their predicted times beside the measured ones, in microseconds.
struct Compared {
  std::vector<double> predicted;
  std::vector<double> measured;

  void add(double predicted_us, double measured_us) {
    predicted.push_back(predicted_us);
    measured.push_back(measured_us);
  }
};

double sum(const std::vector<double>& values);

/// The line of a table: sums in ms, and in `kernels` how far single rows are off.
ValidationRow row_of(std::string quantity, std::string source, const Compared& compared);

}  // namespace pipecast
