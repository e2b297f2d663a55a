#include <catch2/catch.hpp>
#include <cmath>
#include <limits>
#include <vector>

#include "attention_case.hpp"
#include "kernels/attention/attention_fwd.hpp"

namespace pipecast::kernels {
namespace {

using namespace testing;

struct Outputs {
  Buffer<Bf16> output;
  Buffer<float> log_sum_exp;
};

Outputs run(const AttentionInputs& inputs, int sms = 0) {
  const auto rows = static_cast<std::size_t>(inputs.total_queries() * inputs.heads());
  Outputs out{Buffer<Bf16>(rows * kValueWidth), Buffer<float>(rows)};
  attention_fwd({inputs.query.data(), inputs.key.data(), inputs.value.data(), out.output.data(),
                 out.log_sum_exp.data(), inputs.sequences(), sms});
  synchronise();
  return out;
}

std::size_t at(reference::Index i) { return static_cast<std::size_t>(i); }

// Two roundings to BF16 (7 bits of fraction: half a step is 2^-8), and FP32 sums and exponentials
// far below them.
constexpr double kTolerance = 2 * 0x1p-8 + 0x1p-13;

/// The worst error over what AttentionExpected::magnitude allows.
double output_error(const Outputs& actual, const AttentionExpected& expected) {
  double worst = 0;
  for (reference::Index i = 0; i < expected.output.size(); ++i) {
    const double value = static_cast<double>(to_float(actual.output[at(i)]));
    const double error = std::abs(value - expected.output.data()[i]);
    if (std::isnan(error)) return INFINITY;
    if (error > 0) worst = std::fmax(worst, error / expected.magnitude.data()[i]);
  }
  return worst;
}

/// Largest error of the log-sum-exps, over 1 + |expected|.
double log_sum_exp_error(const Outputs& actual, const AttentionExpected& expected) {
  double worst = 0;
  for (reference::Index row = 0; row < expected.log_sum_exp.rows(); ++row) {
    for (reference::Index head = 0; head < expected.log_sum_exp.cols(); ++head) {
      const double right = expected.log_sum_exp(row, head);
      const double value =
          static_cast<double>(actual.log_sum_exp[at(head * expected.log_sum_exp.rows() + row)]);
      if (value == right) continue;  // minus infinity as well
      const double error = std::abs(value - right) / (1 + std::abs(right));
      if (std::isnan(error)) return INFINITY;
      worst = std::fmax(worst, error);
    }
  }
  return worst;
}

// 12 roundings of a sum of 192 products to FP32, and as many in the row's sum.
constexpr double kLogTolerance = 0x1p-15;

}  // namespace

TEST_CASE("attention is the softmax of scaled logits over the values, sequence by sequence",
          "[attention_fwd]") {
  struct Case {
    std::vector<AttentionLengths> lengths;
    int heads;
    bool causal;
  };
  const auto example = GENERATE(values<Case>({
      {{{1, 1}}, 1, true},
      {{{130, 130}}, 1, true},  // just over a tile
      {{{129, 129}}, 1, false},
      {{{5, 5}, {0, 0}, {65, 65}, {1, 1}}, 2, true},  // ragged, and one empty
      {{{3, 131}, {64, 64}}, 1, true},                // queries at the end of a longer context
      {{{2, 140}}, 1, false},
      {{{70, 2}, {3, 0}, {4, 4}}, 1, true},  // queries that see no key
  }));
  const AttentionInputs inputs(example.lengths, example.heads, example.causal);
  CAPTURE(example.lengths.front().queries, example.lengths.front().keys, example.causal);
  const AttentionExpected expected = expected_attention(inputs);
  std::vector<std::uint16_t> first;
  in_every_order([&] {
    const Outputs actual = run(inputs);
    REQUIRE(output_error(actual, expected) < kTolerance);
    REQUIRE(log_sum_exp_error(actual, expected) < kLogTolerance);
    // No order of warps changes a bit.
    std::vector<std::uint16_t> bits;
    for (const Bf16 value : actual.output) bits.push_back(value.bits);
    if (first.empty()) first = bits;
    REQUIRE(bits == first);
  });
}

TEST_CASE("attention does not depend on the number of SMs", "[attention_fwd]") {
  const AttentionInputs inputs({{129, 129}, {40, 40}}, 2, true);
  const Outputs all = run(inputs);
  const Outputs one = run(inputs, 1);
  for (std::size_t i = 0; i < all.output.size(); ++i) {
    REQUIRE(all.output[i].bits == one.output[i].bits);
  }
}

TEST_CASE("attention of large logits does not overflow", "[attention_fwd]") {
  // Logits of a deviation of 900: exp() of most is beyond FP32.
  const AttentionInputs inputs({{70, 70}}, 1, true, 30.0F);
  const AttentionExpected expected = expected_attention(inputs);
  const Outputs actual = run(inputs);
  // FP32 logits of 2,700 are off by 2^-13 and a weight by as much of itself, beside the roundings.
  REQUIRE(output_error(actual, expected) < kTolerance + 12 * 0x1p-13);
  REQUIRE(log_sum_exp_error(actual, expected) < kLogTolerance);
}

TEST_CASE("a key that is not a number spoils the queries that see it and no other",
          "[attention_fwd]") {
  const float poison =
      GENERATE(std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity());
  AttentionInputs inputs({{20, 20}, {10, 10}}, 1, true);
  constexpr int kPoisoned = 12;
  const AttentionExpected expected = expected_attention(inputs);
  for (std::size_t i = 0; i < kQueryKeyWidth; ++i) {
    inputs.key[kPoisoned * kQueryKeyWidth + i] = to_bf16(poison);
  }
  const Outputs actual = run(inputs);
  for (std::size_t row = 0; row < 30; ++row) {
    const bool spoilt = row >= kPoisoned && row < 20;
    REQUIRE(std::isnan(actual.log_sum_exp[row]) == spoilt);
    for (std::size_t i = row * kValueWidth; i < (row + 1) * kValueWidth; ++i) {
      const double value = static_cast<double>(to_float(actual.output[i]));
      REQUIRE(std::isnan(value) == spoilt);
      if (!spoilt) {
        REQUIRE(std::abs(value - expected.output.data()[i]) <=
                kTolerance * expected.magnitude.data()[i]);
      }
    }
  }
}

TEST_CASE("an infinity in one element of a key is a weight of zero or no number",
          "[attention_fwd]") {
  AttentionInputs inputs({{2, 2}}, 1, false);
  inputs.key[0] = to_bf16(std::numeric_limits<float>::infinity());
  inputs.query[0] = to_bf16(-1.0F);              // a logit of -infinity
  inputs.query[kQueryKeyWidth] = to_bf16(1.0F);  // of +infinity
  const Outputs actual = run(inputs);
  for (std::size_t i = 0; i < kValueWidth; ++i) {
    // All weight is on the other key.
    REQUIRE(actual.output[i].bits == inputs.value[kValueWidth + i].bits);
    REQUIRE(std::isnan(to_float(actual.output[kValueWidth + i])));
  }
}

TEST_CASE("values that are not numbers stay within their sequence", "[attention_fwd]") {
  AttentionInputs inputs({{5, 5}, {6, 6}}, 1, false);
  const AttentionExpected expected = expected_attention(inputs);
  for (std::size_t i = 5 * kValueWidth; i < 11 * kValueWidth; ++i) {
    inputs.value[i] = to_bf16(std::numeric_limits<float>::quiet_NaN());
  }
  const Outputs actual = run(inputs);
  for (std::size_t i = 0; i < 5 * kValueWidth; ++i) {
    REQUIRE(std::abs(static_cast<double>(to_float(actual.output[i])) - expected.output.data()[i]) <=
            kTolerance * expected.magnitude.data()[i]);
  }
}

TEST_CASE("attention of no tokens does nothing, and refuses a scale that is not positive",
          "[attention_fwd]") {
  const AttentionInputs none({{0, 0}, {0, 0}}, 2, true);
  REQUIRE(run(none).output.size() == 0);
  AttentionFwd wrong{};
  wrong.sequences.heads = 1;
  REQUIRE_THROWS_WITH(attention_fwd(wrong), "attention_fwd: heads and the scale are positive");
}

}  // namespace pipecast::kernels
