#include <catch2/catch.hpp>
#include <cmath>
#include <limits>
#include <vector>

#include "kernels/reference/permute.hpp"
#include "kernels/routing/permute.hpp"
#include "run.hpp"

namespace pipecast::kernels {
namespace {

using namespace testing;
using reference::IndexMatrix;
using reference::Matrix;
using reference::PermutedRows;

enum class Choices { kMixed, kOneExpert, kNone };

struct PermuteShape {
  int tokens;
  int top_k;
  int experts;
  int alignment;
  int columns;
};

std::size_t extent(std::int64_t rows, std::int64_t columns) {
  return static_cast<std::size_t>(rows * columns);
}

/// Distinct local experts of each token in rising order, with gaps for those of other ranks.
IndexMatrix draw_choices(const PermuteShape& shape, Choices kind) {
  std::mt19937_64 generator(11);
  IndexMatrix chosen = IndexMatrix::Constant(shape.tokens, shape.top_k, reference::kElsewhere);
  for (int token = 0; token < shape.tokens; ++token) {
    if (kind == Choices::kOneExpert) chosen(token, token % shape.top_k) = shape.experts - 1;
    if (kind != Choices::kMixed) continue;
    const int start = static_cast<int>(generator() % static_cast<std::uint64_t>(shape.experts));
    for (int k = 0; k < shape.top_k && k < shape.experts; ++k) {
      if (generator() % 3 != 0) chosen(token, k) = (start + k) % shape.experts;
    }
  }
  return chosen;
}

/// A map on the device beside the reference's.
struct Map {
  Map(const PermuteShape& s, const IndexMatrix& experts, int rows_of_room)
      : shape(s),
        capacity(rows_of_room),
        chosen(extent(s.tokens, s.top_k)),
        row_of_choice(chosen.size()),
        choice_of_row(extent(rows_of_room, 1)),
        first_row(extent(s.experts + 1, 1)),
        counts(extent(s.experts, 1)),
        workspace(permute_map_workspace(s.tokens, s.top_k, s.experts)) {
    for (std::size_t i = 0; i < chosen.size(); ++i) chosen[i] = static_cast<int>(experts.data()[i]);
  }
  void run() {
    permute_map({.chosen = chosen.data(),
                 .row_of_choice = row_of_choice.data(),
                 .choice_of_row = choice_of_row.data(),
                 .first_row = first_row.data(),
                 .counts = counts.data(),
                 .workspace = workspace.data(),
                 .tokens = shape.tokens,
                 .top_k = shape.top_k,
                 .experts = shape.experts,
                 .alignment = shape.alignment,
                 .capacity = capacity,
                 .sms = 0});
    synchronise();
  }
  [[nodiscard]] RowPlaces places() const {
    return {.row_of_choice = row_of_choice.data(),
            .choice_of_row = choice_of_row.data(),
            .rows = first_row.data() + shape.experts,
            .tokens = shape.tokens,
            .top_k = shape.top_k,
            .capacity = capacity};
  }
  PermuteShape shape;
  int capacity;
  Buffer<int> chosen;
  Buffer<int> row_of_choice;
  Buffer<int> choice_of_row;
  Buffer<int> first_row;
  Buffer<int> counts;
  Buffer<int> workspace;
};

Matrix as_matrix(const Buffer<Bf16>& values, std::int64_t rows, std::int64_t columns) {
  Matrix result(rows, columns);
  for (std::int64_t i = 0; i < rows * columns; ++i) {
    result.data()[i] = to_float(values[static_cast<std::size_t>(i)]);
  }
  return result;
}
Matrix as_matrix(const std::vector<float>& values, std::int64_t rows, std::int64_t columns) {
  Matrix result(rows, columns);
  for (std::int64_t i = 0; i < rows * columns; ++i) {
    result.data()[i] = values[static_cast<std::size_t>(i)];
  }
  return result;
}

/// As `expected` but for its rounding to BF16 and FP32 sums of terms up to `largest`.
void require_rounded(const Buffer<Bf16>& actual, const Matrix& expected, double largest) {
  for (std::size_t i = 0; i < static_cast<std::size_t>(expected.size()); ++i) {
    const double wanted = expected.data()[i];
    REQUIRE(std::abs(static_cast<double>(to_float(actual[i])) - wanted) <=
            0x1p-8 * std::abs(wanted) + 16 * 0x1p-24 * largest);
  }
}

constexpr PermuteShape kSmall{37, 8, 4, 16, 264};

PermuteShape any_shape() {
  return GENERATE(PermuteShape{1, 1, 1, 1, 8}, kSmall, PermuteShape{180, 6, 32, 128, 128},
                  PermuteShape{0, 8, 4, 128, 1024}, PermuteShape{20, 2, 256, 1, 1032});
}

}  // namespace

TEST_CASE("rows are sorted by expert, then token, and padded", "[permute]") {
  const PermuteShape shape = any_shape();
  const Choices kind = GENERATE(Choices::kMixed, Choices::kOneExpert, Choices::kNone);
  CAPTURE(shape.tokens, shape.experts, static_cast<int>(kind));
  const IndexMatrix chosen = draw_choices(shape, kind);
  const PermutedRows expected = reference::permuted_rows(chosen, shape.experts, shape.alignment);
  constexpr int kSpare = 5;
  const int rows = static_cast<int>(expected.rows.size());
  in_every_order([&] {
    Map map(shape, chosen, rows + kSpare);
    map.run();
    std::vector<int> row_of_choice(map.row_of_choice.size(), -1);
    for (int row = 0; row < rows + kSpare; ++row) {
      int choice = -1;
      if (row < rows && expected.rows[extent(row, 1)]) {
        const auto slot = *expected.rows[extent(row, 1)];
        choice = static_cast<int>(slot.token) * shape.top_k + static_cast<int>(slot.slot);
        row_of_choice[extent(choice, 1)] = row;
      }
      REQUIRE(map.choice_of_row[extent(row, 1)] == choice);
    }
    REQUIRE(std::vector<int>(map.row_of_choice.begin(), map.row_of_choice.end()) == row_of_choice);
    for (std::size_t expert = 0; expert < map.counts.size(); ++expert) {
      REQUIRE(map.counts[expert] == expected.counts[expert]);
      REQUIRE(map.first_row[expert] == expected.offsets[expert]);
    }
    REQUIRE(map.first_row[map.counts.size()] == rows);
  });
}

TEST_CASE("rows that find no room are dropped, and nothing is written behind", "[permute]") {
  const IndexMatrix chosen = draw_choices(kSmall, Choices::kOneExpert);
  constexpr int kRoom = 20;  // of 37 rows
  Map map(kSmall, chosen, kRoom);
  map.run();
  int placed = 0;
  for (const int row : map.row_of_choice) placed += row >= 0 ? 1 : 0;
  REQUIRE(placed == kRoom);
  REQUIRE(map.counts[3] == kSmall.tokens);
  const auto tokens = as_bf16(normal_values(extent(kSmall.tokens, kSmall.columns), 1));
  Buffer<Bf16> rows(extent(kRoom, kSmall.columns));
  permute({tokens.data(), rows.data(), map.places(), kSmall.columns, 0});
  synchronise();
  for (std::size_t i = 0; i < rows.size(); ++i) REQUIRE(rows[i].bits == tokens[i].bits);
}

TEST_CASE("permute copies every token to its rows and clears the padding", "[permute]") {
  const PermuteShape shape = any_shape();
  const Choices kind = GENERATE(Choices::kMixed, Choices::kOneExpert, Choices::kNone);
  CAPTURE(shape.tokens, shape.experts, static_cast<int>(kind));
  const IndexMatrix chosen = draw_choices(shape, kind);
  const PermutedRows order = reference::permuted_rows(chosen, shape.experts, shape.alignment);
  const auto rows = static_cast<std::int64_t>(order.rows.size());
  const auto tokens = as_bf16(normal_values(extent(shape.tokens, shape.columns), 1));
  const Matrix expected =
      reference::permute_forward(as_matrix(tokens, shape.tokens, shape.columns), order);
  Map map(shape, chosen, static_cast<int>(rows));
  map.run();
  in_every_order([&] {
    Buffer<Bf16> result(extent(rows, shape.columns));
    permute({tokens.data(), result.data(), map.places(), shape.columns, 0});
    synchronise();
    for (std::size_t i = 0; i < result.size(); ++i) {
      REQUIRE(static_cast<double>(to_float(result[i])) == expected.data()[i]);
    }
  });
}

TEST_CASE("permute moves FP8 rows with their scales, in either layout", "[permute]") {
  const PermuteShape shape =
      GENERATE(PermuteShape{1, 1, 1, 1, 128}, PermuteShape{37, 8, 4, 16, 640},
               PermuteShape{0, 8, 4, 128, 128}, PermuteShape{5, 3, 2, 8, 128 * 40});
  const bool by_block = GENERATE(false, true);
  CAPTURE(shape.tokens, shape.columns, by_block);
  const IndexMatrix chosen = draw_choices(shape, Choices::kMixed);
  const PermutedRows order = reference::permuted_rows(chosen, shape.experts, shape.alignment);
  const auto rows = static_cast<std::int64_t>(order.rows.size());
  const std::int64_t blocks = shape.columns / 128;
  const auto tokens = as_e4m3(normal_values(extent(shape.tokens, shape.columns), 1, 100.0F));
  const Buffer<float> scales(normal_values(extent(shape.tokens, blocks), 2));
  Map map(shape, chosen, static_cast<int>(rows));
  map.run();
  in_every_order([&] {
    Buffer<E4m3> result(extent(rows, shape.columns));
    Buffer<float> result_scales(extent(rows, blocks));
    const std::int64_t row_step = by_block ? 1 : blocks;
    const std::int64_t block_step = by_block ? rows : 1;
    permute_with_scales({tokens.data(), scales.data(), result.data(), result_scales.data(),
                         row_step, block_step, map.places(), shape.columns, 0});
    synchronise();
    for (std::int64_t row = 0; row < rows; ++row) {
      const auto& source = order.rows[extent(row, 1)];
      for (int column = 0; column < shape.columns; ++column) {
        const std::uint8_t bits =
            source ? tokens[extent(source->token, shape.columns) + extent(column, 1)].bits
                   : std::uint8_t{0};
        REQUIRE(result[extent(row, shape.columns) + extent(column, 1)].bits == bits);
      }
      for (std::int64_t block = 0; block < blocks; ++block) {
        const float scale =
            source ? scales[extent(source->token, blocks) + extent(block, 1)] : 0.0F;
        REQUIRE(result_scales[extent(row, row_step) + extent(block, block_step)] == scale);
      }
    }
  });
}

TEST_CASE("unpermute sums each token's rows by weight", "[permute]") {
  const PermuteShape shape = any_shape();
  const Choices kind = GENERATE(Choices::kMixed, Choices::kOneExpert, Choices::kNone);
  const bool weighted = GENERATE(false, true);
  CAPTURE(shape.tokens, shape.experts, static_cast<int>(kind), weighted);
  const IndexMatrix chosen = draw_choices(shape, kind);
  const PermutedRows order = reference::permuted_rows(chosen, shape.experts, shape.alignment);
  const auto count = static_cast<std::int64_t>(order.rows.size());
  // Padding holds NaN: it must not be read.
  std::vector<float> values = normal_values(extent(count, shape.columns), 3);
  for (std::int64_t row = 0; row < count; ++row) {
    if (order.rows[extent(row, 1)]) continue;
    for (int i = 0; i < shape.columns; ++i) {
      values[extent(row, shape.columns) + extent(i, 1)] = std::numeric_limits<float>::quiet_NaN();
    }
  }
  const auto rows = as_bf16(values);
  const auto weights = normal_values(extent(shape.tokens, shape.top_k), 4);
  const Buffer<float> weight_buffer(weights);
  const Matrix dense = as_matrix(rows, count, shape.columns);
  const Matrix expected = weighted
                              ? reference::unpermute_forward(
                                    dense, as_matrix(weights, shape.tokens, shape.top_k), order)
                              : reference::permute_backward(dense, order);
  Map map(shape, chosen, static_cast<int>(count));
  map.run();
  in_every_order([&] {
    Buffer<Bf16> result(extent(shape.tokens, shape.columns));
    unpermute_reduce({rows.data(), weighted ? weight_buffer.data() : nullptr, result.data(),
                      map.places(), shape.columns, 0});
    synchronise();
    require_rounded(result, expected, 5.0 * 5.0);
  });
}

TEST_CASE("unpermute's gradients are those of its rows and weights", "[permute]") {
  const PermuteShape shape = any_shape();
  const Choices kind = GENERATE(Choices::kMixed, Choices::kOneExpert, Choices::kNone);
  CAPTURE(shape.tokens, shape.experts, static_cast<int>(kind));
  const IndexMatrix chosen = draw_choices(shape, kind);
  const PermutedRows order = reference::permuted_rows(chosen, shape.experts, shape.alignment);
  const auto count = static_cast<std::int64_t>(order.rows.size());
  const auto rows = as_bf16(normal_values(extent(count, shape.columns), 3));
  const auto slopes = as_bf16(normal_values(extent(shape.tokens, shape.columns), 5));
  const auto weights = normal_values(extent(shape.tokens, shape.top_k), 4);
  const Buffer<float> weight_buffer(weights);
  const auto expected = reference::unpermute_backward(
      as_matrix(slopes, shape.tokens, shape.columns), as_matrix(rows, count, shape.columns),
      as_matrix(weights, shape.tokens, shape.top_k), order);
  Map map(shape, chosen, static_cast<int>(count));
  map.run();
  std::vector<float> first;
  in_every_order([&] {
    Buffer<Bf16> rows_grad(rows.size());
    Buffer<float> weights_grad(weights.size());
    unpermute_reduce_bwd({slopes.data(), rows.data(), weight_buffer.data(), rows_grad.data(),
                          weights_grad.data(), map.places(), shape.columns, 0});
    synchronise();
    require_rounded(rows_grad, expected.rows, 5.0 * 5.0);
    // A dot product of normal variates: terms of about 1, FP32 sums of columns / 32 and then 32.
    for (std::size_t i = 0; i < weights.size(); ++i) {
      const double terms = static_cast<double>(shape.columns);
      REQUIRE(std::abs(static_cast<double>(weights_grad[i]) - expected.weights.data()[i]) <
              0x1p-24 * terms * (terms / 32 + 5));
      if (!first.empty()) REQUIRE(weights_grad[i] == first[i]);
    }
    first.assign(weights_grad.begin(), weights_grad.end());
  });
}

TEST_CASE("unpermute's gradients agree with finite differences", "[permute]") {
  const PermuteShape shape{3, 2, 2, 2, 8};
  const IndexMatrix chosen = draw_choices(shape, Choices::kMixed);
  const PermutedRows order = reference::permuted_rows(chosen, shape.experts, shape.alignment);
  const auto count = static_cast<std::int64_t>(order.rows.size());
  const auto rows = as_bf16(normal_values(extent(count, shape.columns), 3));
  const auto slopes = as_bf16(normal_values(extent(shape.tokens, shape.columns), 5));
  const auto weights = normal_values(extent(shape.tokens, shape.top_k), 4);
  const Buffer<float> weight_buffer(weights);
  const Matrix slope = as_matrix(slopes, shape.tokens, shape.columns);
  const auto loss = [&](const Matrix& r, const Matrix& w) {
    return reference::unpermute_forward(r, w, order).cwiseProduct(slope).sum();
  };
  Map map(shape, chosen, static_cast<int>(count));
  map.run();
  Buffer<Bf16> rows_grad(rows.size());
  Buffer<float> weights_grad(weights.size());
  unpermute_reduce_bwd({slopes.data(), rows.data(), weight_buffer.data(), rows_grad.data(),
                        weights_grad.data(), map.places(), shape.columns, 0});
  synchronise();
  const Matrix at_rows = as_matrix(rows, count, shape.columns);
  const Matrix at_weights = as_matrix(weights, shape.tokens, shape.top_k);
  constexpr double kStep = 1e-4;  // exact but for rounding: the loss is linear in each
  for (int i = 0; i < at_rows.size(); ++i) {
    Matrix up = at_rows;
    Matrix down = at_rows;
    up.data()[i] += kStep;
    down.data()[i] -= kStep;
    const double expected = (loss(up, at_weights) - loss(down, at_weights)) / (2 * kStep);
    REQUIRE(std::abs(static_cast<double>(to_float(rows_grad[extent(i, 1)])) - expected) <=
            0x1p-8 * std::abs(expected) + 1e-9);
  }
  for (int i = 0; i < at_weights.size(); ++i) {
    Matrix up = at_weights;
    Matrix down = at_weights;
    up.data()[i] += kStep;
    down.data()[i] -= kStep;
    const double expected = (loss(at_rows, up) - loss(at_rows, down)) / (2 * kStep);
    REQUIRE(std::abs(static_cast<double>(weights_grad[extent(i, 1)]) - expected) <
            0x1p-24 * 8 * 8 * 25);
  }
}

TEST_CASE("permutes refuse columns that are no whole pieces", "[permute]") {
  Map map(kSmall, draw_choices(kSmall, Choices::kNone), 0);
  REQUIRE_THROWS_WITH(permute({nullptr, nullptr, map.places(), 4, 0}),
                      Catch::Contains("multiple of 8"));
  REQUIRE_THROWS_WITH(
      permute_with_scales({nullptr, nullptr, nullptr, nullptr, 1, 1, map.places(), 64, 0}),
      Catch::Contains("multiple of 128"));
}

}  // namespace pipecast::kernels
