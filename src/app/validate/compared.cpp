#include "app/validate/compared.hpp"

#include <numeric>

namespace pipecast {

namespace {

constexpr double kMicrosecondsPerMillisecond = 1e3;

}  // namespace

double sum(const std::vector<double>& values) {
  return std::accumulate(values.begin(), values.end(), 0.0);
}

ValidationRow row_of(std::string quantity, std::string source, const Compared& compared) {
  const double predicted = sum(compared.predicted) / kMicrosecondsPerMillisecond;
  const double measured = sum(compared.measured) / kMicrosecondsPerMillisecond;
  ValidationRow out{.value = {.quantity = std::move(quantity),
                              .unit = "ms",
                              .published = measured,
                              .kind = "measured",
                              .predict = {},
                              .source = std::move(source)},
                    .predicted = predicted,
                    .error = predicted / measured - 1};
  std::vector<double> errors;
  for (std::size_t i = 0; i < compared.measured.size(); ++i) {
    errors.push_back(compared.predicted[i] / compared.measured[i] - 1);
  }
  out.kernels = summarise(errors);
  return out;
}

}  // namespace pipecast
