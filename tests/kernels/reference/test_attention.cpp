#include <catch2/catch.hpp>
#include <cmath>
#include <limits>

#include "base/error.hpp"
#include "differences.hpp"
#include "kernels/reference/attention.hpp"

using namespace pipecast::kernels::reference;
using Catch::Matchers::Contains;

namespace {

AttentionCase small_case(bool causal) {
  return {.heads = 2,
          .query_key_width = 6,
          .value_width = 4,
          .scale = 1 / std::sqrt(6.0),
          .causal = causal,
          .cumulative_lengths = {0, 1, 1, 6, 9}};
}

AttentionTensors random_tensors(const AttentionCase& shape) {
  const Index tokens = shape.cumulative_lengths.back();
  return {random_matrix("query", tokens, shape.heads * shape.query_key_width),
          random_matrix("key", tokens, shape.heads * shape.query_key_width),
          random_matrix("value", tokens, shape.heads * shape.value_width)};
}

}  // namespace

TEST_CASE("equal logits give the mean of the values seen and the logarithm of their number",
          "[reference]") {
  const bool causal = GENERATE(false, true);
  const AttentionCase shape = small_case(causal);
  AttentionTensors inputs = random_tensors(shape);
  inputs.query.setZero();
  const AttentionResult result = attention_forward(shape, inputs);
  for (std::size_t i = 0; i + 1 < shape.cumulative_lengths.size(); ++i) {
    const Index begin = shape.cumulative_lengths[i];
    const Index end = shape.cumulative_lengths[i + 1];
    for (Index row = begin; row < end; ++row) {
      const Index seen = (causal ? row + 1 : end) - begin;
      const Matrix mean = inputs.value.middleRows(begin, seen).colwise().mean();
      REQUIRE(relative_error(result.output.row(row), mean) < kSame);
      REQUIRE(result.log_sum_exp(row, 0) == Approx(std::log(static_cast<double>(seen))));
    }
  }
}

TEST_CASE("a very large logit takes all the weight without overflow", "[reference]") {
  const AttentionCase shape = {.heads = 1,
                               .query_key_width = 2,
                               .value_width = 1,
                               .scale = 1,
                               .causal = false,
                               .cumulative_lengths = {0, 2}};
  const AttentionTensors inputs = {Matrix{{1e4, 0}, {0, 1}}, Matrix{{1, 0}, {0.5, 0}},
                                   Matrix{{3}, {5}}};
  const AttentionResult result = attention_forward(shape, inputs);
  REQUIRE(result.output(0, 0) == 3);
  REQUIRE(result.log_sum_exp(0, 0) == 1e4);
}

TEST_CASE("log-sum-exp sums the exponentials of the scaled logits", "[reference]") {
  const AttentionCase shape = small_case(false);
  const AttentionTensors inputs = random_tensors(shape);
  double sum = 0;
  for (Index key = 6; key < 9; ++key) {  // the last sequence, head 1
    sum += std::exp(shape.scale *
                    inputs.query.row(7).segment(6, 6).dot(inputs.key.row(key).segment(6, 6)));
  }
  REQUIRE(attention_forward(shape, inputs).log_sum_exp(7, 1) == Approx(std::log(sum)));
}

TEST_CASE("gradients of attention are its slopes", "[reference]") {
  const bool causal = GENERATE(false, true);
  const AttentionCase shape = small_case(causal);
  AttentionTensors inputs = random_tensors(shape);
  const Matrix of_output = random_matrix("gradient", 9, 2 * 4);
  const AttentionTensors gradients = attention_backward(shape, inputs, of_output);
  const AttentionTensors by_output =
      attention_backward(shape, inputs, attention_forward(shape, inputs).output, of_output);
  REQUIRE(relative_error(by_output.query, gradients.query) < kSame);
  REQUIRE(relative_error(by_output.key, gradients.key) < kSame);
  REQUIRE(by_output.value == gradients.value);
  const auto loss = [&] {
    return weighted_sum(attention_forward(shape, inputs).output, of_output);
  };
  REQUIRE(relative_error(gradients.query, slopes(inputs.query, loss)) < kSlopeTolerance);
  REQUIRE(relative_error(gradients.key, slopes(inputs.key, loss)) < kSlopeTolerance);
  REQUIRE(relative_error(gradients.value, slopes(inputs.value, loss)) < kSlopeTolerance);
}

TEST_CASE("attention refuses tensors of other extents", "[reference]") {
  AttentionCase shape = small_case(true);
  AttentionTensors inputs = random_tensors(shape);
  REQUIRE_THROWS_WITH(attention_backward(shape, inputs, Matrix(9, 7)),
                      Contains("output gradient must be 9 x 8, not 9 x 7"));
  inputs.value.resize(9, 5);
  REQUIRE_THROWS_WITH(attention_forward(shape, inputs), Contains("value must be 9 x 8"));
  shape.cumulative_lengths = {0, 4, 3};
  REQUIRE_THROWS_WITH(attention_forward(shape, inputs), Contains("must ascend from 0"));
  shape.heads = 0;
  REQUIRE_THROWS_WITH(attention_forward(shape, inputs), Contains("attention of 0 heads"));
}

TEST_CASE("absorbed decoding equals attention with the up-projections applied", "[reference]") {
  constexpr Index kHeads = 2;
  constexpr Index kPlain = 3;
  constexpr Index kRope = 2;
  constexpr Index kLatent = 5;
  constexpr Index kLength = 4;
  const Matrix cache = random_matrix("cache", kLength, kLatent + kRope);
  const Matrix query = random_matrix("query", 1, kHeads * (kPlain + kRope));
  const Matrix key_up = random_matrix("key up", kHeads * kPlain, kLatent);
  const Matrix value_up = random_matrix("value up", kHeads * kPlain, kLatent);

  AttentionTensors inputs = {Matrix::Zero(kLength, kHeads * (kPlain + kRope)),
                             Matrix::Zero(kLength, kHeads * (kPlain + kRope)),
                             Matrix::Zero(kLength, kHeads * kPlain)};
  Matrix absorbed(1, kHeads * (kLatent + kRope));
  inputs.query.bottomRows(1) = query;
  for (Index head = 0; head < kHeads; ++head) {
    const auto of_head = key_up.middleRows(head * kPlain, kPlain);
    const Index at = head * (kPlain + kRope);
    inputs.key.middleCols(at, kPlain) = cache.leftCols(kLatent) * of_head.transpose();
    inputs.key.middleCols(at + kPlain, kRope) = cache.rightCols(kRope);
    inputs.value.middleCols(head * kPlain, kPlain) =
        cache.leftCols(kLatent) * value_up.middleRows(head * kPlain, kPlain).transpose();
    absorbed.middleCols(head * (kLatent + kRope), kLatent) = query.middleCols(at, kPlain) * of_head;
    absorbed.middleCols(head * (kLatent + kRope) + kLatent, kRope) =
        query.middleCols(at + kPlain, kRope);
  }
  const double scale = 1 / std::sqrt(double{kPlain + kRope});
  const AttentionResult whole = attention_forward({.heads = kHeads,
                                                   .query_key_width = kPlain + kRope,
                                                   .value_width = kPlain,
                                                   .scale = scale,
                                                   .causal = true,
                                                   .cumulative_lengths = {0, kLength}},
                                                  inputs);
  const AttentionResult decoded = absorbed_decode({.heads = kHeads,
                                                   .latent_width = kLatent,
                                                   .rope_width = kRope,
                                                   .scale = scale,
                                                   .cache_rows = contiguous_cache_rows({kLength})},
                                                  absorbed, cache);
  REQUIRE(relative_error(decoded.log_sum_exp, whole.log_sum_exp.bottomRows(1)) < kSame);
  for (Index head = 0; head < kHeads; ++head) {
    const Matrix raised = decoded.output.middleCols(head * kLatent, kLatent) *
                          value_up.middleRows(head * kPlain, kPlain).transpose();
    REQUIRE(relative_error(raised, whole.output.bottomRows(1).middleCols(head * kPlain, kPlain)) <
            kSame);
  }
}

TEST_CASE("decoding over pages equals decoding over the same rows in order", "[reference]") {
  const Indices lengths{3, 0, 5};
  const Matrix in_order = random_matrix("cache", 8, 6);
  const std::vector<Indices> pages = paged_cache_rows(lengths, 2, {{4, 1}, {}, {0, 5, 3}});
  const std::vector<Indices> rows = contiguous_cache_rows(lengths);
  Matrix paged = random_matrix("unused", 12, 6);
  for (std::size_t i = 0; i < pages.size(); ++i) {
    REQUIRE(pages[i].size() == rows[i].size());
    for (std::size_t p = 0; p < pages[i].size(); ++p)
      paged.row(pages[i][p]) = in_order.row(rows[i][p]);
  }
  AbsorbedDecodeCase shape = {.heads = 2,
                              .latent_width = 4,
                              .rope_width = 2,
                              .scale = 0.5,
                              .queries_per_sequence = 2,
                              .cache_rows = rows};
  const Matrix query = random_matrix("query", 6, 2 * 6);
  const AttentionResult expected = absorbed_decode(shape, query, in_order);
  shape.cache_rows = pages;
  const AttentionResult result = absorbed_decode(shape, query, paged);
  REQUIRE(result.output == expected.output);
  REQUIRE(result.log_sum_exp == expected.log_sum_exp);
  // The empty sequence sees nothing; the earlier of two queries does not see the last position.
  REQUIRE(result.output.row(2).isZero(0));
  REQUIRE(result.log_sum_exp(2, 0) == -std::numeric_limits<double>::infinity());
  shape.queries_per_sequence = 1;
  shape.cache_rows = {{rows[0][0], rows[0][1]}, {}, {rows[2].begin(), rows[2].end() - 1}};
  Matrix earlier(3, 12);
  for (Index i = 0; i < 3; ++i) earlier.row(i) = query.row(2 * i);
  const AttentionResult alone = absorbed_decode(shape, earlier, in_order);
  for (Index i = 0; i < 3; ++i) REQUIRE(alone.output.row(i) == expected.output.row(2 * i));
}

TEST_CASE("decoding refuses positions outside the cache and its pages", "[reference]") {
  REQUIRE_THROWS_WITH(paged_cache_rows({5}, 2, {{0, 1}}),
                      Contains("5 positions, its pages hold 4"));
  REQUIRE_THROWS_WITH(paged_cache_rows({5, 1}, 2, {{0, 1}}),
                      Contains("2 sequences, 1 page tables"));
  REQUIRE_THROWS_WITH(paged_cache_rows({5}, 0, {{0, 1}}), Contains("pages of 0 rows"));
  REQUIRE_THROWS_WITH(contiguous_cache_rows({-1}), Contains("-1 positions"));
  AbsorbedDecodeCase shape = {.heads = 1, .latent_width = 1, .scale = 1, .cache_rows = {{3}}};
  REQUIRE_THROWS_WITH(absorbed_decode(shape, Matrix::Ones(1, 1), Matrix::Ones(3, 1)),
                      Contains("cache row 3 of 3"));
  shape.heads = 0;
  REQUIRE_THROWS_WITH(absorbed_decode(shape, Matrix::Ones(1, 1), Matrix::Ones(3, 1)),
                      Contains("decoding of 0 heads"));
}
