#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>
#include <limits>
#include <numeric>
#include <tuple>
#include <vector>

#include "kernels/reference/gate.hpp"
#include "kernels/routing/gate.hpp"
#include "run.hpp"

namespace pipecast::kernels {
namespace {

using namespace testing;
using reference::GateSettings;
using reference::Index;
using reference::IndexMatrix;
using reference::Matrix;
using reference::Vector;

constexpr float kScale = 2.5F;
constexpr float kNothing = std::numeric_limits<float>::quiet_NaN();

struct GateShape {
  int tokens;
  int experts;
  int groups;
  int top_groups;
  int top_k;
};

std::size_t extent(int rows, int columns) {
  return static_cast<std::size_t>(rows) * static_cast<std::size_t>(columns);
}

GateSettings settings(const GateShape& shape) {
  return {.experts = shape.experts,
          .groups = shape.groups,
          .chosen_groups = shape.top_groups,
          .chosen_experts = shape.top_k,
          .scaling = static_cast<double>(kScale)};
}

Matrix sigmoid(const Matrix& logits) {
  return logits.unaryExpr([](double x) { return 1.0 / (1.0 + std::exp(-x)); });
}

/// Smallest difference that the selection of one token hangs on.
double margin(const Eigen::RowVectorXd& biased, const GateShape& shape) {
  const int width = shape.experts / shape.groups;
  std::vector<std::pair<double, int>> groups;
  for (int group = 0; group < shape.groups; ++group) {
    std::vector<double> scores(biased.data() + group * width, biased.data() + (group + 1) * width);
    std::partial_sort(scores.begin(), scores.begin() + 2, scores.end(), std::greater<>());
    groups.emplace_back(scores[0] + scores[1], group);
  }
  std::sort(groups.rbegin(), groups.rend());
  double smallest = std::numeric_limits<double>::infinity();
  std::vector<double> kept;
  for (int i = 0; i < shape.top_groups; ++i) {
    const int first = groups[static_cast<std::size_t>(i)].second * width;
    kept.insert(kept.end(), biased.data() + first, biased.data() + first + width);
  }
  if (shape.top_groups < shape.groups) {
    const auto last = static_cast<std::size_t>(shape.top_groups);
    smallest = groups[last - 1].first - groups[last].first;
  }
  std::sort(kept.rbegin(), kept.rend());
  for (std::size_t i = 0; i + 1 < kept.size() && i < static_cast<std::size_t>(shape.top_k); ++i) {
    smallest = std::min(smallest, kept[i] - kept[i + 1]);
  }
  return smallest;
}

struct GateInputs {
  Buffer<float> fp32;  // one of the two
  Buffer<Bf16> bf16;
  Buffer<float> bias;
  Matrix logits;
  Vector biases;
};

/// Logits of which no choice hangs on a rounding of FP32: at most 2^-21 in a sum of two scores.
GateInputs decisive_inputs(const GateShape& shape, bool bf16) {
  constexpr double kDecisive = 1e-5;
  const std::vector<float> bias = normal_values(extent(1, shape.experts), 3, 0.05F);
  GateInputs inputs{.fp32 = {},
                    .bf16 = {},
                    .bias = Buffer<float>(bias),
                    .logits = Matrix(shape.tokens, shape.experts),
                    .biases = Vector(shape.experts)};
  for (int i = 0; i < shape.experts; ++i) inputs.biases(i) = bias[static_cast<std::size_t>(i)];
  std::vector<float> values;
  std::uint64_t seed = 1;
  for (int token = 0; token < shape.tokens; ++token) {
    std::vector<float> row;
    double decisive = 0;
    while (decisive < kDecisive) {
      row = normal_values(extent(1, shape.experts), ++seed);
      for (float& value : row) value = bf16 ? to_float(to_bf16(value)) : value;
      for (int i = 0; i < shape.experts; ++i) {
        inputs.logits(token, i) = row[static_cast<std::size_t>(i)];
      }
      decisive = margin(sigmoid(inputs.logits.row(token)) + inputs.biases.transpose(), shape);
    }
    values.insert(values.end(), row.begin(), row.end());
  }
  if (bf16) {
    inputs.bf16 = as_bf16(values);
  } else {
    inputs.fp32 = Buffer<float>(values);
  }
  return inputs;
}

GateTopk problem(const GateShape& s, const GateInputs& inputs, Buffer<int>& chosen,
                 Buffer<float>& weights) {
  return {.logits_fp32 = inputs.fp32.data(),
          .logits_bf16 = inputs.bf16.data(),
          .bias = inputs.bias.data(),
          .chosen = chosen.data(),
          .weights = weights.data(),
          .tokens = s.tokens,
          .experts = s.experts,
          .groups = s.groups,
          .top_groups = s.top_groups,
          .top_k = s.top_k,
          .scale = kScale,
          .sms = 0};
}

struct GateAnswer {
  std::vector<int> chosen;
  std::vector<float> weights;
};

/// The gate of one token of 256 experts in 8 groups, without bias.
GateAnswer route_one(const std::vector<float>& logits) {
  const Buffer<float> input(logits);
  Buffer<int> chosen(8);
  Buffer<float> weights(8);
  gate_topk({.logits_fp32 = input.data(),
             .logits_bf16 = nullptr,
             .bias = nullptr,
             .chosen = chosen.data(),
             .weights = weights.data(),
             .tokens = 1,
             .experts = 256,
             .groups = 8,
             .top_groups = 4,
             .top_k = 8,
             .scale = kScale,
             .sms = 0});
  synchronise();
  return {{chosen.begin(), chosen.end()}, {weights.begin(), weights.end()}};
}

std::vector<int> first_experts(int count) {
  std::vector<int> result(static_cast<std::size_t>(count));
  std::iota(result.begin(), result.end(), 0);
  return result;
}

}  // namespace

TEST_CASE("the gate chooses and weighs as its definition says", "[gate]") {
  const GateShape shape =
      GENERATE(GateShape{1, 256, 8, 4, 8}, GateShape{35, 256, 8, 4, 8}, GateShape{9, 64, 1, 1, 6},
               GateShape{5, 32, 4, 2, 3}, GateShape{6, 512, 16, 4, 10}, GateShape{9, 128, 8, 8, 1},
               GateShape{3, 32, 1, 1, 32});
  const bool bf16 = GENERATE(false, true);
  CAPTURE(shape.tokens, shape.experts, bf16);
  const GateInputs inputs = decisive_inputs(shape, bf16);
  const auto expected = reference::gate_forward(inputs.logits, inputs.biases, settings(shape));
  in_every_order([&] {
    Buffer<int> chosen(extent(shape.tokens, shape.top_k));
    Buffer<float> weights(chosen.size());
    gate_topk(problem(shape, inputs, chosen, weights));
    synchronise();
    for (int token = 0; token < shape.tokens; ++token) {
      for (int k = 0; k < shape.top_k; ++k) {
        const auto at = static_cast<std::size_t>(token * shape.top_k + k);
        REQUIRE(chosen[at] == expected.experts(token, k));
        // About 32 roundings: an exponential, a quotient, a sum over 32 lanes, two more.
        const double weight = expected.weights(token, k);
        REQUIRE(std::abs(static_cast<double>(weights[at]) - weight) < 32 * 0x1p-24 * weight);
      }
    }
  });
}

TEST_CASE("equal scores go to the experts of lower index", "[gate]") {
  const GateAnswer answer = route_one(std::vector<float>(256, 0.25F));
  REQUIRE(answer.chosen == first_experts(8));
  for (const float weight : answer.weights) REQUIRE(weight == Approx(kScale / 8));

  // Experts 40 and 200 lead, and with them their groups 1 and 6; the rest fill up from below.
  std::vector<float> logits(256, 0.25F);
  logits[200] = 2.0F;
  logits[40] = 2.0F;
  REQUIRE(route_one(logits).chosen == std::vector<int>{40, 200, 0, 1, 2, 3, 4, 5});
}

TEST_CASE("a NaN ranks below every number and minus infinity weighs nothing", "[gate]") {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  SECTION("a NaN is not chosen while numbers are left") {
    std::vector<float> logits(256, -1.0F);
    logits[0] = kNothing;
    logits[3] = kNothing;
    const GateAnswer answer = route_one(logits);
    REQUIRE(answer.chosen == std::vector<int>{1, 2, 4, 5, 6, 7, 8, 9});
    for (const float weight : answer.weights) REQUIRE(weight == Approx(kScale / 8));
  }
  SECTION("too few numbers: NaN fill up by index and poison the weights") {
    std::vector<float> logits(256, kNothing);
    logits[100] = 0.5F;
    logits[101] = -kInfinity;
    const GateAnswer answer = route_one(logits);
    // Group 3 holds the only two numbers; groups 0, 1 and 2 follow as equals.
    REQUIRE(answer.chosen == std::vector<int>{100, 101, 0, 1, 2, 3, 4, 5});
    for (const float weight : answer.weights) REQUIRE(std::isnan(weight));
  }
  SECTION("nothing but NaN") {
    REQUIRE(route_one(std::vector<float>(256, kNothing)).chosen == first_experts(8));
  }
  SECTION("nothing but minus infinity: scores and weights are zero") {
    const GateAnswer answer = route_one(std::vector<float>(256, -kInfinity));
    REQUIRE(answer.chosen == first_experts(8));
    REQUIRE(answer.weights == std::vector<float>(8, 0.0F));
  }
  SECTION("plus infinity is a score of one") {
    std::vector<float> logits(256, -kInfinity);
    logits[255] = kInfinity;
    const GateAnswer answer = route_one(logits);
    REQUIRE(answer.chosen == std::vector<int>{255, 0, 1, 2, 3, 4, 5, 6});
    REQUIRE(answer.weights[0] == kScale);
  }
}

TEST_CASE("the gate's gradient is that of its weights and zero elsewhere", "[gate]") {
  const GateShape shape = GENERATE(GateShape{1, 256, 8, 4, 8}, GateShape{19, 256, 8, 4, 8},
                                   GateShape{5, 32, 4, 2, 3}, GateShape{3, 512, 16, 4, 32});
  const bool bf16 = GENERATE(false, true);
  CAPTURE(shape.tokens, shape.experts, bf16);
  const GateInputs inputs = decisive_inputs(shape, bf16);
  const auto forward = reference::gate_forward(inputs.logits, inputs.biases, settings(shape));
  const std::vector<float> slopes = normal_values(extent(shape.tokens, shape.top_k), 4);
  Matrix slope(shape.tokens, shape.top_k);
  Buffer<int> chosen(slopes.size());
  for (std::size_t i = 0; i < slopes.size(); ++i) {
    slope.data()[i] = slopes[i];
    chosen[i] = static_cast<int>(forward.experts.data()[i]);
  }
  const Buffer<float> weights_grad(slopes);
  const Matrix expected = reference::gate_backward(forward, slope, settings(shape));
  in_every_order([&] {
    const std::size_t size = extent(shape.tokens, shape.experts);
    Buffer<float> fp32(bf16 ? 0 : size);
    Buffer<Bf16> rounded(bf16 ? size : 0);
    gate_topk_bwd({.logits_fp32 = inputs.fp32.data(),
                   .logits_bf16 = inputs.bf16.data(),
                   .chosen = chosen.data(),
                   .weights_grad = weights_grad.data(),
                   .logits_grad_fp32 = fp32.data(),
                   .logits_grad_bf16 = rounded.data(),
                   .tokens = shape.tokens,
                   .experts = shape.experts,
                   .top_k = shape.top_k,
                   .scale = kScale,
                   .sms = 0});
    synchronise();
    for (std::size_t i = 0; i < size; ++i) {
      const double wanted = expected.data()[i];
      const double got = static_cast<double>(bf16 ? to_float(rounded[i]) : fp32[i]);
      // Terms up to |slope| * scale / 4 cancel in FP32; BF16 rounds by 2^-8.
      REQUIRE(std::abs(got - wanted) <= 32 * 0x1p-24 * 5 + (bf16 ? 0x1p-8 : 0) * std::abs(wanted));
      if (wanted == 0) REQUIRE(got == 0);
    }
  });
}

TEST_CASE("the gate's gradient agrees with finite differences", "[gate]") {
  const GateShape shape{2, 32, 4, 2, 3};
  const GateInputs inputs = decisive_inputs(shape, false);
  const auto forward = reference::gate_forward(inputs.logits, inputs.biases, settings(shape));
  const std::vector<float> slopes = normal_values(6, 5);
  const auto loss = [&](const Matrix& logits) {
    const Matrix weights =
        reference::routing_weights(sigmoid(logits), forward.experts, settings(shape));
    double sum = 0;
    for (std::size_t i = 0; i < slopes.size(); ++i) {
      sum += static_cast<double>(slopes[i]) * weights.data()[i];
    }
    return sum;
  };
  Buffer<int> chosen(slopes.size());
  for (std::size_t i = 0; i < slopes.size(); ++i) {
    chosen[i] = static_cast<int>(forward.experts.data()[i]);
  }
  const Buffer<float> weights_grad(slopes);
  Buffer<float> gradient(64);
  gate_topk_bwd({.logits_fp32 = inputs.fp32.data(),
                 .logits_bf16 = nullptr,
                 .chosen = chosen.data(),
                 .weights_grad = weights_grad.data(),
                 .logits_grad_fp32 = gradient.data(),
                 .logits_grad_bf16 = nullptr,
                 .tokens = 2,
                 .experts = 32,
                 .top_k = 3,
                 .scale = kScale,
                 .sms = 0});
  synchronise();
  for (std::size_t i = 0; i < 64; ++i) {
    constexpr double kStep = 1e-5;
    Matrix up = inputs.logits;
    Matrix down = inputs.logits;
    up.data()[i] += kStep;
    down.data()[i] -= kStep;
    const double slope = (loss(up) - loss(down)) / (2 * kStep);
    // Central differences: step^2, and FP64's 2^-53 over the step; the kernel's FP32.
    REQUIRE(static_cast<double>(gradient[i]) == Approx(slope).margin(32 * 0x1p-24 * 5));
  }
}

TEST_CASE("a gate without tokens writes nothing, and impossible shapes are refused", "[gate]") {
  Buffer<float> logits(256);
  Buffer<int> chosen(8);
  Buffer<float> weights(8);
  GateTopk gate{.logits_fp32 = logits.data(),
                .logits_bf16 = nullptr,
                .bias = nullptr,
                .chosen = chosen.data(),
                .weights = weights.data(),
                .tokens = 0,
                .experts = 256,
                .groups = 8,
                .top_groups = 4,
                .top_k = 8,
                .scale = kScale,
                .sms = 0};
  gate_topk(gate);
  synchronise();
  for (const int expert : chosen) REQUIRE(expert == -1);  // as the buffer came
  gate.experts = 100;
  REQUIRE_THROWS_WITH(gate_topk(gate), Catch::Contains("32 to 512 experts"));
  gate.experts = 256;
  gate.top_groups = 9;
  REQUIRE_THROWS_WITH(gate_topk(gate), Catch::Contains("groups divide 32"));
}

TEST_CASE("experts are counted, wherever their choices stand", "[gate]") {
  int choices = 0;
  int experts = 0;
  std::tie(choices, experts) =
      GENERATE(std::tuple{0, 8}, std::tuple{1, 1}, std::tuple{3000, 32}, std::tuple{700, 300});
  const bool one_expert = GENERATE(false, true);
  CAPTURE(choices, experts, one_expert);
  std::vector<int> chosen(static_cast<std::size_t>(choices));
  std::vector<int> expected(static_cast<std::size_t>(experts));
  std::mt19937_64 generator(7);
  for (int& choice : chosen) {
    // Every third belongs to another rank.
    const auto drawn = static_cast<int>(generator() % static_cast<std::uint64_t>(experts));
    choice = generator() % 3 == 0 ? -1 : one_expert ? experts - 1 : drawn;
    if (choice >= 0) ++expected[static_cast<std::size_t>(choice)];
  }
  const Buffer<int> input(chosen);
  in_every_order([&] {
    Buffer<int> counts(expected.size());
    expert_count({input.data(), counts.data(), choices, experts, 0});
    synchronise();
    REQUIRE(std::vector<int>(counts.begin(), counts.end()) == expected);
  });
}

TEST_CASE("the bias moves towards the mean load and stays on it", "[gate]") {
  constexpr float kSpeed = 0.001F;
  const std::vector<int> load = {10, 0, 5, 5, 6, 4, 5, 5};  // mean 5
  const std::vector<float> before = normal_values(load.size(), 8);
  const Buffer<int> loads(load);
  in_every_order([&] {
    Buffer<float> bias(before);
    gate_bias_update({loads.data(), bias.data(), 8, kSpeed});
    synchronise();
    for (std::size_t i = 0; i < load.size(); ++i) {
      const float step = load[i] < 5 ? kSpeed : load[i] > 5 ? -kSpeed : 0.0F;
      REQUIRE(bias[i] == before[i] + step);
    }
  });
}

}  // namespace pipecast::kernels
