#include <catch2/catch.hpp>
#include <cmath>
#include <limits>
#include <tuple>
#include <vector>

#include "kernels/head/cross_entropy.hpp"
#include "kernels/head/embedding.hpp"
#include "kernels/head/mtp.hpp"
#include "kernels/reference/cross_entropy.hpp"
#include "kernels/reference/embedding.hpp"
#include "kernels/reference/rms_norm.hpp"
#include "run.hpp"

namespace pipecast::kernels {
namespace {

using namespace testing;
using reference::Indices;
using reference::Matrix;
using reference::Vector;

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNothing = std::numeric_limits<float>::quiet_NaN();

std::size_t extent(std::int64_t rows, std::int64_t columns) {
  return static_cast<std::size_t>(rows * columns);
}

double number(float value) { return static_cast<double>(value); }
double number(Bf16 value) { return static_cast<double>(to_float(value)); }

template <class Values>
Matrix as_matrix(const Values& values, std::int64_t rows, std::int64_t columns) {
  Matrix result(rows, columns);
  for (std::int64_t i = 0; i < rows * columns; ++i) {
    result.data()[i] = number(values[static_cast<std::size_t>(i)]);
  }
  return result;
}

/// Within one rounding to BF16 and `slack` of what FP32 loses.
void require_rounded(const Buffer<Bf16>& actual, const Matrix& expected, double slack) {
  for (std::size_t i = 0; i < static_cast<std::size_t>(expected.size()); ++i) {
    const double wanted = expected.data()[i];
    REQUIRE(std::abs(number(actual[i]) - wanted) <= 0x1p-8 * std::abs(wanted) + slack);
  }
}

struct Tokens {
  std::vector<int> ids;
  Indices rows;
};

Tokens draw_tokens(int count, int vocabulary) {
  std::mt19937_64 generator(13);
  Tokens tokens;
  for (int i = 0; i < count; ++i) {
    tokens.ids.push_back(static_cast<int>(generator() % static_cast<std::uint64_t>(vocabulary)));
    tokens.rows.push_back(tokens.ids.back());
  }
  return tokens;
}

}  // namespace

TEST_CASE("an embedding gives each token its row", "[head]") {
  int rows = 0;
  int columns = 0;
  std::tie(rows, columns) =
      GENERATE(std::tuple{1, 8}, std::tuple{0, 64}, std::tuple{70, 264}, std::tuple{9, 2056});
  CAPTURE(rows, columns);
  constexpr int kVocabulary = 50;
  const auto table = as_bf16(normal_values(extent(kVocabulary, columns), 1));
  const Tokens tokens = draw_tokens(rows, kVocabulary);
  const Matrix expected =
      reference::embedding_forward(as_matrix(table, kVocabulary, columns), tokens.rows);
  const Buffer<int> ids(tokens.ids);
  in_every_order([&] {
    Buffer<Bf16> output(extent(rows, columns));
    embedding_lookup({table.data(), ids.data(), output.data(), rows, columns, 0});
    synchronise();
    REQUIRE(worst_error(output, {expected.data(), expected.data() + expected.size()}) == 0);
  });
}

TEST_CASE("a token that is none has a row of zeros and no gradient", "[head]") {
  const auto table = as_bf16(std::vector<float>(16, 1.0F));
  const Buffer<int> ids(std::vector<int>{-1, 1});
  Buffer<Bf16> output(16);
  embedding_lookup({table.data(), ids.data(), output.data(), 2, 8, 0});
  Buffer<float> gradient(std::vector<float>(16, 0.0F));
  embedding_grad({table.data(), ids.data(), gradient.data(), 2, 8, 0});
  synchronise();
  for (std::size_t i = 0; i < 16; ++i) {
    REQUIRE(number(output[i]) == (i < 8 ? 0 : 1));
    REQUIRE(gradient[i] == (i < 8 ? 0.0F : 1.0F));
  }
}

TEST_CASE("the embedding's gradient adds up the rows of each token", "[head]") {
  int rows = 0;
  int columns = 0;
  int vocabulary = 0;
  std::tie(rows, columns, vocabulary) =
      GENERATE(std::tuple{1, 8, 1}, std::tuple{0, 8, 3}, std::tuple{40, 264, 7},
               std::tuple{300, 8, 1}, std::tuple{12, 8200, 4});
  CAPTURE(rows, columns, vocabulary);
  const auto slopes = as_bf16(normal_values(extent(rows, columns), 2));
  const auto before = normal_values(extent(vocabulary, columns), 3);
  const Tokens tokens = draw_tokens(rows, vocabulary);
  const Matrix expected =
      as_matrix(before, vocabulary, columns) +
      reference::embedding_backward(as_matrix(slopes, rows, columns), tokens.rows, vocabulary);
  const Buffer<int> ids(tokens.ids);
  std::vector<float> first;
  in_every_order([&] {
    Buffer<float> gradient(before);
    embedding_grad({slopes.data(), ids.data(), gradient.data(), rows, columns, 0});
    synchronise();
    for (std::size_t i = 0; i < gradient.size(); ++i) {
      // One rounding of FP32 per row, of partial sums that stay below 5 sqrt(rows).
      const double slack = 0x1p-24 * (rows + 1) * 5 * std::sqrt(rows + 1.0);
      REQUIRE(std::abs(number(gradient[i]) - expected.data()[i]) <= slack);
      if (!first.empty()) REQUIRE(gradient[i] == first[i]);
    }
    first.assign(gradient.begin(), gradient.end());
  });
}

TEST_CASE("the embedding's gradient agrees with finite differences", "[head]") {
  constexpr int kRows = 4;
  constexpr int kColumns = 8;
  constexpr int kVocabulary = 3;
  const auto slopes = as_bf16(normal_values(extent(kRows, kColumns), 2));
  const Matrix slope = as_matrix(slopes, kRows, kColumns);
  const Tokens tokens = draw_tokens(kRows, kVocabulary);
  const Matrix table =
      as_matrix(normal_values(extent(kVocabulary, kColumns), 1), kVocabulary, kColumns);
  const Buffer<int> ids(tokens.ids);
  Buffer<float> gradient(std::vector<float>(extent(kVocabulary, kColumns), 0.0F));
  embedding_grad({slopes.data(), ids.data(), gradient.data(), kRows, kColumns, 0});
  synchronise();
  const auto loss = [&](const Matrix& at) {
    return reference::embedding_forward(at, tokens.rows).cwiseProduct(slope).sum();
  };
  constexpr double kStep = 1e-3;
  for (std::size_t i = 0; i < gradient.size(); ++i) {
    Matrix up = table;
    Matrix down = table;
    up.data()[i] += kStep;
    down.data()[i] -= kStep;
    REQUIRE(number(gradient[i]) ==
            Approx((loss(up) - loss(down)) / (2 * kStep)).margin(4 * 0x1p-24 * 10));
  }
}

TEST_CASE("cross-entropy is the log-sum less the target's logit", "[head]") {
  int rows = 0;
  int vocabulary = 0;
  std::tie(rows, vocabulary) = GENERATE(std::tuple{1, 8}, std::tuple{0, 8}, std::tuple{7, 8200},
                                        std::tuple{19, 1024}, std::tuple{3, 2056});
  CAPTURE(rows, vocabulary);
  const auto logits = as_bf16(normal_values(extent(rows, vocabulary), 1, 5.0F));
  const Tokens targets = draw_tokens(rows, vocabulary);
  const auto expected =
      reference::cross_entropy_forward(as_matrix(logits, rows, vocabulary), targets.rows);
  const Buffer<int> ids(targets.ids);
  std::vector<float> first;
  in_every_order([&] {
    Buffer<float> log_sum(extent(rows, 1));
    Buffer<float> loss(extent(rows, 1));
    cross_entropy_fwd(
        {logits.data(), ids.data(), log_sum.data(), loss.data(), rows, vocabulary, 0});
    synchronise();
    for (int row = 0; row < rows; ++row) {
      const auto at = static_cast<std::size_t>(row);
      // exp.approx is within 2^-21 for exponents to 40; sums of positive terms along paths of at
      // most vocabulary / 256 + 16; then numbers up to 40 in FP32.
      const double slack = 0x1p-21 + 0x1p-24 * (vocabulary / 256.0 + 16) + 2 * 40 * 0x1p-24;
      REQUIRE(std::abs(number(log_sum[at]) - expected.log_sum_exp(row)) < slack);
      REQUIRE(std::abs(number(loss[at]) - expected.losses(row)) < slack);
      if (!first.empty()) REQUIRE(loss[at] == first[at]);
    }
    first.assign(loss.begin(), loss.end());
  });
}

TEST_CASE("logits that are no numbers, and targets that are none", "[head]") {
  constexpr int kVocabulary = 2056;
  const auto run = [&](float one, float rest, int target) {
    std::vector<float> values(kVocabulary, rest);
    values[100] = one;
    const auto logits = as_bf16(values);
    const Buffer<int> targets(std::vector<int>{target});
    Buffer<float> log_sum(1);
    Buffer<float> loss(1);
    Buffer<Bf16> gradient(kVocabulary);
    cross_entropy_fwd(
        {logits.data(), targets.data(), log_sum.data(), loss.data(), 1, kVocabulary, 0});
    cross_entropy_bwd(
        {logits.data(), targets.data(), log_sum.data(), gradient.data(), 1.0F, 1, kVocabulary, 0});
    synchronise();
    return std::vector<double>{number(log_sum[0]), number(loss[0]), number(gradient[0]),
                               number(gradient[100])};
  };
  SECTION("one NaN, or one infinity, makes all NaN") {
    const float poison = GENERATE(kNothing, kInfinity);
    for (const double value : run(poison, 0.0F, 5)) REQUIRE(std::isnan(value));
  }
  SECTION("minus infinity has no share") {
    const auto answer = run(-kInfinity, 0.0F, 0);
    REQUIRE(answer[0] == Approx(std::log(kVocabulary - 1.0)));
    REQUIRE(answer[3] == 0);
  }
  SECTION("alone among minus infinities a logit is certain") {
    const auto answer = run(3.0F, -kInfinity, 100);
    REQUIRE(answer == std::vector<double>{3, 0, 0, 0});
  }
  SECTION("nothing but minus infinity") {
    const auto answer = run(-kInfinity, -kInfinity, 5);
    REQUIRE(answer[0] == number(-kInfinity));
    REQUIRE(std::isnan(answer[1]));
  }
  SECTION("no target: no loss and no gradient") {
    const auto answer = run(1.0F, 0.0F, -1);
    REQUIRE(std::isfinite(answer[0]));
    REQUIRE(answer[1] == 0);
    REQUIRE(answer[2] == 0);
    REQUIRE(answer[3] == 0);
  }
}

TEST_CASE("the logits' gradient is the softmax less the target, also in place", "[head]") {
  int rows = 0;
  int vocabulary = 0;
  std::tie(rows, vocabulary) =
      GENERATE(std::tuple{1, 8}, std::tuple{0, 8}, std::tuple{7, 8200}, std::tuple{19, 1024});
  const bool in_place = GENERATE(false, true);
  CAPTURE(rows, vocabulary, in_place);
  constexpr float kWeight = 0.25F;
  const auto values = normal_values(extent(rows, vocabulary), 1, 5.0F);
  const Tokens targets = draw_tokens(rows, vocabulary);
  const Matrix exact = as_matrix(as_bf16(values), rows, vocabulary);
  const Matrix expected = reference::cross_entropy_backward(
      exact, targets.rows, Vector::Constant(rows, static_cast<double>(kWeight)));
  const Vector sums = reference::cross_entropy_forward(exact, targets.rows).log_sum_exp;
  Buffer<float> log_sum(extent(rows, 1));
  for (int i = 0; i < rows; ++i) log_sum[extent(i, 1)] = static_cast<float>(sums(i));
  const Buffer<int> ids(targets.ids);
  in_every_order([&] {
    Buffer<Bf16> logits = as_bf16(values);
    Buffer<Bf16> apart(in_place ? 0 : logits.size());
    Buffer<Bf16>& gradient = in_place ? logits : apart;
    cross_entropy_bwd(
        {logits.data(), ids.data(), log_sum.data(), gradient.data(), kWeight, rows, vocabulary, 0});
    synchronise();
    // The exponential's relative error, for exponents to 40, and the log-sum's last place.
    require_rounded(gradient, expected, 0x1p-18 * static_cast<double>(kWeight));
  });
}

TEST_CASE("the logits' gradient agrees with finite differences", "[head]") {
  constexpr int kVocabulary = 16;
  const auto logits = as_bf16(normal_values(kVocabulary, 1));
  const Matrix at = as_matrix(logits, 1, kVocabulary);
  const Indices target = {3};
  const Buffer<int> targets(std::vector<int>{3});
  Buffer<float> log_sum(1);
  Buffer<float> loss(1);
  Buffer<Bf16> gradient(kVocabulary);
  cross_entropy_fwd(
      {logits.data(), targets.data(), log_sum.data(), loss.data(), 1, kVocabulary, 0});
  cross_entropy_bwd(
      {logits.data(), targets.data(), log_sum.data(), gradient.data(), 1.0F, 1, kVocabulary, 0});
  synchronise();
  constexpr double kStep = 1e-5;
  for (int i = 0; i < kVocabulary; ++i) {
    Matrix up = at;
    Matrix down = at;
    up(0, i) += kStep;
    down(0, i) -= kStep;
    const double expected = (reference::cross_entropy_forward(up, target).losses(0) -
                             reference::cross_entropy_forward(down, target).losses(0)) /
                            (2 * kStep);
    REQUIRE(std::abs(number(gradient[extent(i, 1)]) - expected) <
            0x1p-8 * std::abs(expected) + 1e-6);
  }
}

namespace {

struct MtpInputs {
  MtpInputs(int rows, int width)
      : tokens(rows),
        columns(width),
        hidden(as_bf16(normal_values(extent(rows, width), 1))),
        embedding(as_bf16(normal_values(extent(rows, width), 2, 0.02F))),
        slopes(as_bf16(normal_values(extent(rows, 2 * width), 5))),
        hidden_weight(as_bf16(normal_values(extent(1, width), 3))),
        embedding_weight(as_bf16(normal_values(extent(1, width), 4))) {}

  void run_backward() {
    Buffer<float> partial(extent(mtp_partial_rows(0), columns));
    hidden_grad = Buffer<Bf16>(hidden.size());
    embedding_row_grad = Buffer<Bf16>(hidden.size());
    hidden_weight_grad = Buffer<float>(extent(1, columns));
    embedding_weight_grad = Buffer<float>(extent(1, columns));
    mtp_concat_norm_bwd({.hidden = hidden.data(),
                         .embedding = embedding.data(),
                         .hidden_weight = hidden_weight.data(),
                         .embedding_weight = embedding_weight.data(),
                         .output_grad = slopes.data(),
                         .hidden_grad = hidden_grad.data(),
                         .embedding_grad = embedding_row_grad.data(),
                         .hidden_weight_grad = hidden_weight_grad.data(),
                         .embedding_weight_grad = embedding_weight_grad.data(),
                         .partial_sums = partial.data(),
                         .tokens = tokens,
                         .columns = columns,
                         .epsilon = kEpsilon,
                         .sms = 0});
    synchronise();
  }

  static constexpr float kEpsilon = 1e-6F;
  int tokens;
  int columns;
  Buffer<Bf16> hidden;
  Buffer<Bf16> embedding;
  Buffer<Bf16> slopes;
  Buffer<Bf16> hidden_weight;
  Buffer<Bf16> embedding_weight;
  Buffer<Bf16> hidden_grad;
  Buffer<Bf16> embedding_row_grad;
  Buffer<float> hidden_weight_grad;
  Buffer<float> embedding_weight_grad;
};

constexpr double kNormEpsilon = static_cast<double>(MtpInputs::kEpsilon);

Vector as_vector(const Buffer<Bf16>& values) {
  return as_matrix(values, static_cast<std::int64_t>(values.size()), 1).col(0);
}

}  // namespace

TEST_CASE("the MTP projection's input is both norms side by side", "[head]") {
  int tokens = 0;
  int columns = 0;
  std::tie(tokens, columns) =
      GENERATE(std::tuple{1, 8}, std::tuple{0, 64}, std::tuple{11, 1032}, std::tuple{3, 8192});
  CAPTURE(tokens, columns);
  const MtpInputs in(tokens, columns);
  Matrix expected(tokens, 2 * columns);
  expected << reference::rms_norm_forward(as_matrix(in.hidden, tokens, columns),
                                          as_vector(in.hidden_weight), kNormEpsilon),
      reference::rms_norm_forward(as_matrix(in.embedding, tokens, columns),
                                  as_vector(in.embedding_weight), kNormEpsilon);
  in_every_order([&] {
    Buffer<Bf16> output(extent(tokens, 2 * columns));
    mtp_concat_norm({in.hidden.data(), in.embedding.data(), in.hidden_weight.data(),
                     in.embedding_weight.data(), output.data(), tokens, columns,
                     MtpInputs::kEpsilon, 0});
    synchronise();
    // Products up to 5 x 5; a sum of squares along a path of 32 + 13 additions.
    require_rounded(output, expected, 64 * 0x1p-24 * 25);
  });
}

TEST_CASE("a row of zeros has a norm of zeros, one with a NaN is NaN", "[head]") {
  MtpInputs in(2, 16);
  for (std::size_t i = 0; i < 16; ++i) in.hidden[i] = to_bf16(0.0F);
  in.embedding[0] = to_bf16(kNothing);
  Buffer<Bf16> output(extent(2, 32));
  mtp_concat_norm({in.hidden.data(), in.embedding.data(), in.hidden_weight.data(),
                   in.embedding_weight.data(), output.data(), 2, 16, MtpInputs::kEpsilon, 0});
  synchronise();
  for (std::size_t i = 0; i < 16; ++i) {
    REQUIRE(number(output[i]) == 0);
    REQUIRE(std::isnan(number(output[16 + i])));
    REQUIRE(std::isfinite(number(output[48 + i])));
  }
}

TEST_CASE("the gradients of both norms are the reference's", "[head]") {
  int tokens = 0;
  int columns = 0;
  std::tie(tokens, columns) =
      GENERATE(std::tuple{1, 8}, std::tuple{0, 64}, std::tuple{11, 1032}, std::tuple{2, 8192});
  CAPTURE(tokens, columns);
  MtpInputs in(tokens, columns);
  const Matrix slopes = as_matrix(in.slopes, tokens, 2 * columns);
  const auto hidden = reference::rms_norm_backward(as_matrix(in.hidden, tokens, columns),
                                                   as_vector(in.hidden_weight), kNormEpsilon,
                                                   slopes.leftCols(columns));
  const auto embedding = reference::rms_norm_backward(as_matrix(in.embedding, tokens, columns),
                                                      as_vector(in.embedding_weight), kNormEpsilon,
                                                      slopes.rightCols(columns));
  std::vector<float> first;
  in_every_order([&] {
    in.run_backward();
    // The embedding's deviation is 0.02, so its gradient is 50 times larger.
    require_rounded(in.hidden_grad, hidden.input, 64 * 0x1p-24 * 125);
    require_rounded(in.embedding_row_grad, embedding.input, 64 * 0x1p-24 * 125 * 50);
    for (std::size_t i = 0; i < in.hidden_weight_grad.size(); ++i) {
      const auto at = static_cast<Eigen::Index>(i);
      const double slack = (64 + tokens) * 0x1p-24 * 25 * (tokens + 1);
      REQUIRE(std::abs(number(in.hidden_weight_grad[i]) - hidden.weight(at)) < slack);
      REQUIRE(std::abs(number(in.embedding_weight_grad[i]) - embedding.weight(at)) < slack);
      if (!first.empty()) REQUIRE(in.hidden_weight_grad[i] == first[i]);
    }
    first.assign(in.hidden_weight_grad.begin(), in.hidden_weight_grad.end());
  });
}

TEST_CASE("the gradients of both norms agree with finite differences", "[head]") {
  MtpInputs in(2, 8);
  in.run_backward();
  const Matrix slopes = as_matrix(in.slopes, 2, 16);
  const Matrix hidden = as_matrix(in.hidden, 2, 8);
  const Vector weight = as_vector(in.hidden_weight);
  const auto loss = [&](const Matrix& x, const Vector& w) {
    return reference::rms_norm_forward(x, w, kNormEpsilon).cwiseProduct(slopes.leftCols(8)).sum();
  };
  constexpr double kStep = 1e-5;
  for (int i = 0; i < 16; ++i) {
    Matrix up = hidden;
    Matrix down = hidden;
    up.data()[i] += kStep;
    down.data()[i] -= kStep;
    const double expected = (loss(up, weight) - loss(down, weight)) / (2 * kStep);
    REQUIRE(std::abs(number(in.hidden_grad[extent(i, 1)]) - expected) <
            0x1p-8 * std::abs(expected) + 1e-5);
  }
  for (int i = 0; i < 8; ++i) {
    Vector up = weight;
    Vector down = weight;
    up(i) += kStep;
    down(i) -= kStep;
    const double expected = (loss(hidden, up) - loss(hidden, down)) / (2 * kStep);
    REQUIRE(number(in.hidden_weight_grad[extent(i, 1)]) == Approx(expected).margin(1e-5));
  }
}

TEST_CASE("the head's kernels refuse rows that are no whole pieces", "[head]") {
  REQUIRE_THROWS_WITH(embedding_lookup({nullptr, nullptr, nullptr, 1, 4, 0}),
                      Catch::Contains("multiple of 8"));
  REQUIRE_THROWS_WITH(cross_entropy_fwd({nullptr, nullptr, nullptr, nullptr, 1, 12, 0}),
                      Catch::Contains("multiple of 8"));
  REQUIRE_THROWS_WITH(
      mtp_concat_norm({nullptr, nullptr, nullptr, nullptr, nullptr, 1, 8200, 1e-6F, 0}),
      Catch::Contains("at most 8,192"));
}

}  // namespace pipecast::kernels
