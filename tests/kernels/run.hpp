#pragma once

/// What tests of kernels share: random inputs, orders of warps, distances.
#include <cmath>
#include <cstdint>
#include <random>
#include <vector>

#include "kernels/memory/buffer.hpp"
#include "kernels/numbers/bf16.hpp"
#include "kernels/numbers/fp8.hpp"

namespace pipecast::kernels::testing {

/// Every kernel runs under at least this many orders of warps; the first is the plain one.
constexpr std::uint64_t kOrders = 8;

/// Calls `run` under each order of warps and waits for the kernels: once on a GPU, which has its
/// own.
template <class Run>
void in_every_order(const Run& run) {
  for (std::uint64_t order = 0; order < (emulated() ? kOrders : 1); ++order) {
    choose_order(order);
    run();
    synchronise();
  }
  choose_order(0);
}

/// Normal variates of mean 0 and the standard deviation.
inline std::vector<float> normal_values(std::size_t count, std::uint64_t seed,
                                        float deviation = 1.0F) {
  std::mt19937_64 generator(seed);
  std::normal_distribution<float> normal(0.0F, deviation);
  std::vector<float> values(count);
  for (float& value : values) value = normal(generator);
  return values;
}

template <class Format, class Round>
Buffer<Format> rounded(const std::vector<float>& values, const Round& round) {
  Buffer<Format> result(values.size());
  for (std::size_t i = 0; i < values.size(); ++i) result[i] = round(values[i]);
  return result;
}
inline Buffer<Bf16> as_bf16(const std::vector<float>& values) {
  return rounded<Bf16>(values, to_bf16);
}
inline Buffer<E4m3> as_e4m3(const std::vector<float>& values) {
  return rounded<E4m3>(values, to_e4m3);
}

/// Largest |actual - expected| over the root mean square of `expected`; NaN anywhere is infinitely
/// far.
template <class Actual>
double worst_error(const Buffer<Actual>& actual, const std::vector<double>& expected) {
  double worst = 0;
  double square = 0;
  for (std::size_t i = 0; i < expected.size(); ++i) {
    double difference = 0;
    if constexpr (std::is_arithmetic_v<Actual>) {
      difference = std::abs(static_cast<double>(actual[i]) - expected[i]);
    } else {
      difference = std::abs(static_cast<double>(to_float(actual[i])) - expected[i]);
    }
    if (std::isnan(difference)) return INFINITY;
    worst = std::fmax(worst, difference);
    square += expected[i] * expected[i];
  }
  return square == 0 ? worst : worst / std::sqrt(square / static_cast<double>(expected.size()));
}

}  // namespace pipecast::kernels::testing
