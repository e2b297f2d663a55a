#include <catch2/catch.hpp>
#include <cmath>
#include <limits>
#include <vector>

#include "kernels/optimizer/adamw.hpp"
#include "kernels/reference/optimizer.hpp"
#include "run.hpp"

namespace pipecast::kernels {
namespace {

using namespace testing;
using reference::Vector;

constexpr float kRate = 2.2e-4F;
constexpr float kBeta1 = 0.9F;
constexpr float kBeta2 = 0.95F;
constexpr float kEpsilon = 1e-8F;
constexpr float kDecay = 0.1F;

struct OptimizerState {
  Buffer<float> weights;
  Buffer<Bf16> first;
  Buffer<Bf16> second;
  Buffer<Bf16> parameters;
};

template <class Values>
Vector as_vector(const Values& values) {
  Vector result(static_cast<Eigen::Index>(values.size()));
  for (std::size_t i = 0; i < values.size(); ++i) {
    if constexpr (std::is_same_v<std::decay_t<decltype(values[i])>, Bf16>) {
      result(static_cast<Eigen::Index>(i)) = to_float(values[i]);
    } else {
      result(static_cast<Eigen::Index>(i)) = values[i];
    }
  }
  return result;
}

OptimizerState fresh_state(std::size_t size) {
  return {.weights = Buffer<float>(normal_values(size, 1)),
          .first = as_bf16(std::vector<float>(size, 0.0F)),
          .second = as_bf16(std::vector<float>(size, 0.0F)),
          .parameters = Buffer<Bf16>(size)};
}

AdamW step_of(OptimizerState& state, const Buffer<float>& gradients, const double* squares,
              int step, float largest_norm) {
  return {.gradients = gradients.data(),
          .sum_of_squares = squares,
          .weights = state.weights.data(),
          .first_moment = state.first.data(),
          .second_moment = state.second.data(),
          .parameters = state.parameters.data(),
          .elements = static_cast<std::int64_t>(gradients.size()),
          .step = step,
          .learning_rate = kRate,
          .beta1 = kBeta1,
          .beta2 = kBeta2,
          .epsilon = kEpsilon,
          .weight_decay = kDecay,
          .largest_norm = largest_norm,
          .sms = 0};
}

double run_norm(const Buffer<float>& gradients) {
  Buffer<double> sum(1);
  Buffer<double> partials(static_cast<std::size_t>(grad_norm_partials(0)));
  grad_norm({gradients.data(), sum.data(), partials.data(),
             static_cast<std::int64_t>(gradients.size()), 0});
  synchronise();
  return sum[0];
}

}  // namespace

TEST_CASE("AdamW with BF16 moments follows its definition over steps", "[adamw]") {
  const auto size = static_cast<std::size_t>(GENERATE(1, 7, 8, 2051, 9000));
  const bool clipped = GENERATE(false, true);
  CAPTURE(size, clipped);
  const auto nearest_bf16 = [](double value) {
    return static_cast<double>(to_float(to_bf16(static_cast<float>(value))));
  };
  const reference::AdamWSettings settings{.learning_rate = static_cast<double>(kRate),
                                          .beta1 = static_cast<double>(kBeta1),
                                          .beta2 = static_cast<double>(kBeta2),
                                          .epsilon = static_cast<double>(kEpsilon),
                                          .weight_decay = static_cast<double>(kDecay)};
  in_every_order([&] {
    OptimizerState state = fresh_state(size);
    for (int step = 1; step <= 3; ++step) {
      const auto values = normal_values(size, static_cast<std::uint64_t>(step) + 10);
      const Buffer<float> gradients(values);
      const Vector exact = as_vector(values);
      const double factor =
          clipped ? reference::clipping_factor(reference::gradient_norm({exact}), 1.0) : 1.0;
      const Buffer<double> squares(std::vector<double>{exact.squaredNorm()});
      // From the kernel's own state: its roundings to BF16 are part of the definition.
      const auto expected = reference::adamw_step({.parameters = as_vector(state.weights),
                                                   .first_moment = as_vector(state.first),
                                                   .second_moment = as_vector(state.second)},
                                                  factor * exact, settings, step, nearest_bf16);
      adamw(step_of(state, gradients, clipped ? squares.data() : nullptr, step, 1.0F));
      synchronise();
      for (std::size_t i = 0; i < size; ++i) {
        const auto at = static_cast<Eigen::Index>(i);
        const double weight = expected.parameters(at);
        // Half a unit in FP32's last place for the difference, and 32 roundings of an update that
        // is at most rate * (|m| / sqrt(v) + decay |w|), a few rates.
        REQUIRE(std::abs(static_cast<double>(state.weights[i]) - weight) <
                0x1p-23 * std::abs(weight) + 32 * 0x1p-24 * 8 * static_cast<double>(kRate));
        // A BF16 of the same number, or its neighbour where FP32 errs across the middle. m is a
        // difference of terms up to 5.
        REQUIRE(
            std::abs(static_cast<double>(to_float(state.first[i])) - expected.first_moment(at)) <=
            0x1p-7 * std::abs(expected.first_moment(at)) + 4 * 0x1p-24);
        REQUIRE(std::abs(static_cast<double>(to_float(state.second[i])) -
                         expected.second_moment(at)) <= 0x1p-7 * expected.second_moment(at));
        REQUIRE(state.parameters[i].bits == to_bf16(state.weights[i]).bits);
      }
    }
  });
}

TEST_CASE("the sum of squares is the same in every order", "[adamw]") {
  const auto size = static_cast<std::size_t>(GENERATE(1, 15, 2048, 20011));
  CAPTURE(size);
  const auto values = normal_values(size, 2);
  const Buffer<float> gradients(values);
  const double first = run_norm(gradients);
  // FP64 sums of positive terms: 2^-53 for each of the additions along a path.
  REQUIRE(first == Approx(as_vector(values).squaredNorm()).epsilon(1e-12));
  in_every_order([&] { REQUIRE(run_norm(gradients) == first); });
}

TEST_CASE("a gradient that is not finite leaves the optimizer's state alone", "[adamw]") {
  const float poison =
      GENERATE(std::numeric_limits<float>::infinity(), std::numeric_limits<float>::quiet_NaN());
  std::vector<float> values(100, 1.0F);
  values[57] = poison;
  const Buffer<float> gradients(values);
  const Buffer<double> squares(std::vector<double>{run_norm(gradients)});
  REQUIRE_FALSE(std::isfinite(squares[0]));
  OptimizerState state = fresh_state(values.size());
  const OptimizerState before = fresh_state(values.size());
  adamw(step_of(state, gradients, squares.data(), 1, 1.0F));
  synchronise();
  for (std::size_t i = 0; i < values.size(); ++i) {
    REQUIRE(state.weights[i] == before.weights[i]);
    REQUIRE(state.first[i].bits == 0);
    REQUIRE(state.second[i].bits == 0);
    REQUIRE(state.parameters[i].bits == to_bf16(before.weights[i]).bits);
  }
  // Without clipping a NaN stays with its own element.
  adamw(step_of(state, gradients, nullptr, 1, 1.0F));
  synchronise();
  REQUIRE(std::isnan(state.weights[57]));
  REQUIRE(std::isfinite(state.weights[56]));
}

TEST_CASE("an optimizer step over nothing is fine and steps start at 1", "[adamw]") {
  const Buffer<float> none(0);
  OptimizerState state = fresh_state(0);
  adamw(step_of(state, none, nullptr, 1, 1.0F));
  REQUIRE(run_norm(none) == 0);
  REQUIRE_THROWS_WITH(adamw(step_of(state, none, nullptr, 0, 1.0F)), Catch::Contains("from 1"));
}

}  // namespace pipecast::kernels
