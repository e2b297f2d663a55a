#include <catch2/catch.hpp>
#include <cmath>
#include <limits>
#include <vector>

#include "attention_case.hpp"
#include "kernels/attention/attention_bwd.hpp"

namespace pipecast::kernels {
namespace {

using namespace testing;
using reference::Index;
using reference::Matrix;

// Half a step of BF16, which has 7 bits of fraction.
constexpr double kRounding = 0x1p-8;
// FP32 sums and exponentials beside the roundings to BF16.
constexpr double kSlack = 1.02;

struct Gradients {
  Buffer<Bf16> query;
  Buffer<Bf16> key;
  Buffer<Bf16> value;
};

/// The three kernels, after a forward pass that the reference has made.
Gradients run(const AttentionInputs& inputs, const AttentionExpected& forward, int sms = 0) {
  const auto rows = [&](int tokens, int width) {
    return static_cast<std::size_t>(tokens) * static_cast<std::size_t>(inputs.heads() * width);
  };
  const int queries = inputs.total_queries();
  Buffer<Bf16> output(rows(queries, kValueWidth));
  for (std::size_t i = 0; i < output.size(); ++i) {
    output[i] = to_bf16(static_cast<float>(forward.output.data()[i]));
  }
  Buffer<float> log_sum_exp(rows(queries, 1));
  for (Index row = 0; row < queries; ++row) {
    for (Index head = 0; head < inputs.heads(); ++head) {
      log_sum_exp[static_cast<std::size_t>(head * queries + row)] =
          static_cast<float>(forward.log_sum_exp(row, head));
    }
  }
  Gradients out{Buffer<Bf16>(inputs.query.size()), Buffer<Bf16>(inputs.key.size()),
                Buffer<Bf16>(inputs.value.size())};
  AttentionBwd problem{};
  problem.sequences = inputs.sequences();
  const AttentionBwdWorkspace sizes = attention_bwd_workspace(problem.sequences);
  Buffer<float> statistics(sizes.row_statistics);
  Buffer<float> sums(sizes.query_sums);
  Buffer<std::uint32_t> turns(sizes.query_turns);
  problem.query = inputs.query.data();
  problem.key = inputs.key.data();
  problem.value = inputs.value.data();
  problem.output = output.data();
  problem.log_sum_exp = log_sum_exp.data();
  problem.output_gradient = inputs.output_gradient.data();
  problem.query_gradient = out.query.data();
  problem.key_gradient = out.key.data();
  problem.value_gradient = out.value.data();
  problem.row_statistics = statistics.data();
  problem.query_sums = sums.data();
  problem.query_turns = turns.data();
  problem.sms = sms;
  attention_bwd_preprocess(problem);
  attention_bwd(problem);
  attention_bwd_convert_dq(problem);
  synchronise();
  return out;
}

/// The FP64 gradients of one sequence and how far the formats let a kernel be from each: P and dS
/// are rounded to BF16 before their products, O before its product with dO, and every result.
struct GradientBounds {
  reference::AttentionTensors gradients;
  reference::AttentionTensors allowed;
};
GradientBounds bounds_of(const AttentionInputs::Aligned& aligned) {
  const auto& [query, key, value] = aligned.tensors;
  const reference::AttentionCase& shape = aligned.shape;
  const auto forward = attention_forward(shape, aligned.tensors);
  GradientBounds out{attention_backward(shape, aligned.tensors, aligned.output_gradient), {}};
  const Index tokens = query.rows();
  out.allowed.query = out.gradients.query.cwiseAbs() * kRounding;
  out.allowed.key = out.gradients.key.cwiseAbs() * kRounding;
  out.allowed.value = out.gradients.value.cwiseAbs() * kRounding;
  const auto of_head = [&](const Matrix& matrix, Index row, Index head, Index width) {
    return matrix.row(row).segment(head * width, width);
  };
  for (Index row = 0; row < tokens; ++row) {
    for (Index head = 0; head < shape.heads; ++head) {
      const auto own = of_head(query, row, head, kQueryKeyWidth);
      const auto gradient = of_head(aligned.output_gradient, row, head, kValueWidth);
      const auto output = of_head(forward.output, row, head, kValueWidth);
      const double mean = gradient.dot(output);
      const double mean_error = kRounding * gradient.cwiseAbs().dot(output.cwiseAbs());
      for (Index other = 0; other < (shape.causal ? row + 1 : tokens); ++other) {
        const auto their = of_head(key, other, head, kQueryKeyWidth);
        const double weight =
            std::exp(shape.scale * own.dot(their) - forward.log_sum_exp(row, head));
        const double of_weight = gradient.dot(of_head(value, other, head, kValueWidth));
        const double error =
            shape.scale * weight *
            (2 * kRounding * std::abs(of_weight - mean) + (1 + kRounding) * mean_error);
        out.allowed.query.row(row).segment(head * kQueryKeyWidth, kQueryKeyWidth) +=
            error * their.cwiseAbs();
        out.allowed.key.row(other).segment(head * kQueryKeyWidth, kQueryKeyWidth) +=
            error * own.cwiseAbs();
        out.allowed.value.row(other).segment(head * kValueWidth, kValueWidth) +=
            kRounding * weight * gradient.cwiseAbs();
      }
    }
  }
  return out;
}

/// The worst error over what is allowed, of rows [first, first + right.rows()) of a tensor.
double worst_of(const Buffer<Bf16>& actual, Index first, const Matrix& right,
                const Matrix& allowed) {
  double worst = 0;
  for (Index i = 0; i < right.size(); ++i) {
    const auto at = static_cast<std::size_t>(first * right.cols() + i);
    const double error = std::abs(static_cast<double>(to_float(actual[at])) - right.data()[i]);
    if (std::isnan(error)) return INFINITY;
    if (error > 0) worst = std::fmax(worst, error / (kSlack * allowed.data()[i] + 0x1p-100));
  }
  return worst;
}

void require_gradients(const AttentionInputs& inputs, const std::vector<GradientBounds>& bounds,
                       const Gradients& actual) {
  for (std::size_t i = 0; i < inputs.lengths().size(); ++i) {
    const auto aligned = inputs.aligned(i);
    const auto& [right, allowed] = bounds[i];
    REQUIRE(worst_of(actual.key, aligned.first_key, right.key, allowed.key) <= 1);
    REQUIRE(worst_of(actual.value, aligned.first_key, right.value, allowed.value) <= 1);
    const Index own = right.query.rows() - aligned.put_in;
    REQUIRE(worst_of(actual.query, aligned.first_query + aligned.left_out,
                     right.query.bottomRows(own), allowed.query.bottomRows(own)) <= 1);
    // Queries that see no key.
    const Matrix zero = Matrix::Zero(aligned.left_out, right.query.cols());
    REQUIRE(worst_of(actual.query, aligned.first_query, zero, zero) == 0);
  }
}

std::vector<std::uint16_t> bits_of_all(const Gradients& gradients) {
  std::vector<std::uint16_t> bits;
  for (const Bf16 value : gradients.query) bits.push_back(value.bits);
  for (const Bf16 value : gradients.key) bits.push_back(value.bits);
  for (const Bf16 value : gradients.value) bits.push_back(value.bits);
  return bits;
}

}  // namespace

TEST_CASE("attention's gradients are those of the FP64 backward, the same bits in every order",
          "[attention_bwd]") {
  struct Case {
    std::vector<AttentionLengths> lengths;
    int heads;
    bool causal;
  };
  const auto example = GENERATE(values<Case>({
      {{{1, 1}}, 1, true},
      {{{65, 65}}, 1, true},    // just over a tile of queries
      {{{130, 130}}, 1, true},  // of keys
      {{{129, 129}}, 1, false},
      {{{5, 5}, {0, 0}, {66, 66}, {1, 1}}, 2, true},
      {{{3, 131}, {70, 70}}, 1, true},  // queries at the end of a longer context
      {{{70, 2}, {3, 0}, {0, 4}}, 1, true},
  }));
  const AttentionInputs inputs(example.lengths, example.heads, example.causal);
  CAPTURE(example.lengths.front().queries, example.lengths.front().keys, example.causal);
  const AttentionExpected forward = expected_attention(inputs);
  std::vector<GradientBounds> bounds;
  for (std::size_t i = 0; i < example.lengths.size(); ++i) {
    bounds.push_back(bounds_of(inputs.aligned(i)));
  }
  std::vector<std::uint16_t> first;
  in_every_order([&] {
    const Gradients actual = run(inputs, forward);
    require_gradients(inputs, bounds, actual);
    const std::vector<std::uint16_t> bits = bits_of_all(actual);
    if (first.empty()) first = bits;
    REQUIRE(bits == first);
  });
}

TEST_CASE("attention's gradients do not depend on the number of SMs", "[attention_bwd]") {
  const AttentionInputs inputs({{130, 130}, {40, 40}}, 2, true);
  const AttentionExpected forward = expected_attention(inputs);
  REQUIRE(bits_of_all(run(inputs, forward)) == bits_of_all(run(inputs, forward, 1)));
}

TEST_CASE("attention's gradients are the slope of the output's product with its gradient",
          "[attention_bwd]") {
  const AttentionInputs inputs({{6, 6}}, 1, true);
  const Gradients actual = run(inputs, expected_attention(inputs));
  auto aligned = inputs.aligned(0);
  const GradientBounds bounds = bounds_of(aligned);
  const auto loss = [&] {
    return attention_forward(aligned.shape, aligned.tensors)
        .output.cwiseProduct(aligned.output_gradient)
        .sum();
  };
  // The third derivative of a softmax of logits of order 1 makes an error of step^2.
  constexpr double kStep = 1e-4;
  constexpr double kSlopeError = 1e-6;
  const auto require_slopes = [&](Matrix& tensor, const Buffer<Bf16>& gradient,
                                  const Matrix& allowed) {
    for (Index i = 0; i < tensor.size(); i += 37) {
      const double value = tensor.data()[i];
      tensor.data()[i] = value + kStep;
      const double above = loss();
      tensor.data()[i] = value - kStep;
      const double below = loss();
      tensor.data()[i] = value;
      const double slope = (above - below) / (2 * kStep);
      const double found = static_cast<double>(to_float(gradient[static_cast<std::size_t>(i)]));
      REQUIRE(std::abs(found - slope) <= kSlack * allowed.data()[i] + kSlopeError);
    }
  };
  require_slopes(aligned.tensors.query, actual.query, bounds.allowed.query);
  require_slopes(aligned.tensors.key, actual.key, bounds.allowed.key);
  require_slopes(aligned.tensors.value, actual.value, bounds.allowed.value);
}

TEST_CASE("no gradient leaks from one sequence into another, not even NaN", "[attention_bwd]") {
  AttentionInputs inputs({{5, 5}, {66, 66}, {4, 4}}, 1, true);
  AttentionExpected forward = expected_attention(inputs);
  const Gradients clean = run(inputs, forward);
  const auto spoil = [](Buffer<Bf16>& tensor, std::size_t width) {
    for (std::size_t i = 5 * width; i < 71 * width; ++i) {
      tensor[i] = to_bf16(std::numeric_limits<float>::quiet_NaN());
    }
  };
  spoil(inputs.query, kQueryKeyWidth);
  spoil(inputs.key, kQueryKeyWidth);
  spoil(inputs.value, kValueWidth);
  spoil(inputs.output_gradient, kValueWidth);
  forward.output.middleRows(5, 66).setConstant(std::numeric_limits<double>::quiet_NaN());
  forward.log_sum_exp.middleRows(5, 66).setConstant(std::numeric_limits<double>::quiet_NaN());
  const Gradients actual = run(inputs, forward);
  const auto require_same = [](const Buffer<Bf16>& before, const Buffer<Bf16>& after,
                               std::size_t width) {
    for (std::size_t i = 0; i < 75 * width; ++i) {
      const bool spoilt = i >= 5 * width && i < 71 * width;
      REQUIRE((spoilt ? std::isnan(to_float(after[i])) : before[i].bits == after[i].bits));
    }
  };
  require_same(clean.query, actual.query, kQueryKeyWidth);
  require_same(clean.key, actual.key, kQueryKeyWidth);
  require_same(clean.value, actual.value, kValueWidth);
}

TEST_CASE("attention's gradients of no tokens are none, and a scale is positive",
          "[attention_bwd]") {
  const AttentionInputs none({{0, 0}}, 2, true);
  REQUIRE(run(none, expected_attention(none)).query.size() == 0);
  AttentionBwd wrong{};
  wrong.sequences.heads = 1;
  REQUIRE_THROWS_WITH(attention_bwd_preprocess(wrong),
                      "attention_bwd_preprocess: heads and the scale are positive");
  REQUIRE_THROWS_WITH(attention_bwd(wrong), "attention_bwd: heads and the scale are positive");
  REQUIRE_THROWS_WITH(attention_bwd_convert_dq(wrong),
                      "attention_bwd_convert_dq: heads and the scale are positive");
}

}  // namespace pipecast::kernels
