#include <catch2/catch.hpp>
#include <vector>

#include "kernels/activation/elementwise.hpp"
#include "kernels/reference/swiglu.hpp"
#include "kernels/simt/device_error.hpp"
#include "rows.hpp"

namespace pipecast::kernels {
namespace {

using namespace testing;
using reference::Matrix;

bool same_bits(Bf16 a, Bf16 b) { return a.bits == b.bits; }

}  // namespace

TEST_CASE("a strided copy moves its part and nothing else", "[elementwise]") {
  const auto [rows, columns] = GENERATE(std::tuple{1, 8}, std::tuple{67, 128}, std::tuple{300, 40});
  CAPTURE(rows, columns);
  const int source_stride = columns + 16;
  const int stride = columns + 64;
  const auto source = as_bf16(normal_values(extent(rows, source_stride), 1));
  const auto before = as_bf16(normal_values(extent(rows, stride), 2));
  in_every_order([&, rows = rows, columns = columns] {
    Buffer<Bf16> destination(before.size());
    std::copy(before.begin(), before.end(), destination.begin());
    copy_strided(
        {source.data() + 8, destination.data() + 32, source_stride, stride, rows, columns, 0});
    synchronise();
    int wrong = 0;
    for (int row = 0; row < rows; ++row) {
      for (int column = 0; column < stride; ++column) {
        const std::size_t at = extent(row, stride) + extent(1, column);
        const bool copied = column >= 32 && column < 32 + columns;
        const Bf16 expected =
            copied ? source[extent(row, source_stride) + extent(1, column - 32 + 8)] : before[at];
        wrong += same_bits(destination[at], expected) ? 0 : 1;
      }
    }
    REQUIRE(wrong == 0);
  });
}

TEST_CASE("a residual is the rounded sum, in place too, and keeps NaN and infinity",
          "[elementwise]") {
  const auto [rows, columns] = GENERATE(std::tuple{1, 8}, std::tuple{129, 264});
  CAPTURE(rows, columns);
  auto a = as_bf16(normal_values(extent(rows, columns), 1));
  const auto b = as_bf16(normal_values(extent(rows, columns), 2));
  a[3] = Bf16{0x7fff};
  a[4] = to_bf16(INFINITY);
  in_every_order([&, rows = rows, columns = columns] {
    Buffer<Bf16> sum(a.size());
    elementwise_add({a.data(), b.data(), sum.data(), rows, columns, 0});
    Buffer<Bf16> in_place(a.size());
    std::copy(a.begin(), a.end(), in_place.begin());
    elementwise_add({b.data(), in_place.data(), in_place.data(), rows, columns, 1});
    synchronise();
    REQUIRE(bf16_distance(sum, as_matrix(a, rows, columns) + as_matrix(b, rows, columns)) <= 1);
    REQUIRE(std::equal(sum.begin(), sum.end(), in_place.begin(), same_bits));
  });
}

TEST_CASE("a part for all heads reaches each, and its gradient is their sum", "[elementwise]") {
  const auto [rows, heads, columns] =
      GENERATE(std::tuple{1, 1, 8}, std::tuple{37, 128, 64}, std::tuple{140, 9, 16});
  CAPTURE(rows, heads, columns);
  const int head_stride = columns + 128;
  const int row_stride = heads * head_stride;
  const auto shared = as_bf16(normal_values(extent(rows, columns + 8), 1));
  const auto of_heads = as_bf16(normal_values(extent(rows, row_stride), 2));
  Matrix sums = Matrix::Zero(rows, columns);
  for (int row = 0; row < rows; ++row) {
    for (int head = 0; head < heads; ++head) {
      for (int column = 0; column < columns; ++column) {
        sums(row, column) += static_cast<double>(
            to_float(of_heads[extent(row, row_stride) + extent(head, head_stride) +
                              extent(1, column + 128)]));
      }
    }
  }
  in_every_order([&, rows = rows, heads = heads, columns = columns] {
    Buffer<Bf16> spread(of_heads.size());
    elementwise_to_heads({shared.data(), spread.data() + 128, columns + 8, row_stride, head_stride,
                          rows, heads, columns, 0});
    Buffer<Bf16> sum(extent(rows, columns));
    elementwise_of_heads({of_heads.data() + 128, sum.data(), columns, row_stride, head_stride, rows,
                          heads, columns, 0});
    synchronise();
    int wrong = 0;
    for (int row = 0; row < rows; ++row) {
      for (int column = 0; column < row_stride; ++column) {
        const int inside = column % head_stride - 128;
        const Bf16 expected =
            inside < 0 ? Bf16{0xffff} : shared[extent(row, columns + 8) + extent(1, inside)];
        wrong += same_bits(spread[extent(row, row_stride) + extent(1, column)], expected) ? 0 : 1;
      }
    }
    REQUIRE(wrong == 0);
    REQUIRE(bf16_distance(sum, sums) <= 1);
  });
}

TEST_CASE("a sigmoid in FP32 is the reference's to a few roundings", "[elementwise]") {
  const auto [rows, columns] = GENERATE(std::tuple{1, 8}, std::tuple{33, 256});
  CAPTURE(rows, columns);
  std::vector<float> values = normal_values(extent(rows, columns), 1, 5.0F);
  values[0] = INFINITY;
  values[1] = -INFINITY;
  values[2] = 200.0F;
  values[3] = -200.0F;
  values[4] = std::numeric_limits<float>::quiet_NaN();
  const Buffer<float> source(values);
  in_every_order([&, rows = rows, columns = columns] {
    Buffer<float> result(source.size());
    elementwise_sigmoid({source.data(), result.data(), rows, columns, 0});
    synchronise();
    REQUIRE(std::isnan(result[4]));
    double worst = 0;
    for (std::size_t i = 0; i < values.size(); ++i) {
      if (i == 4) continue;
      const double exact = reference::sigmoid(static_cast<double>(values[i]));
      // The exponential's argument is rounded to FP32: 2^-24 of up to 20 for these numbers. What
      // is below FP32's smallest number is 0.
      const double allowed = exact * std::exp2(-18) + std::exp2(-126);
      worst = std::max(worst, std::abs(static_cast<double>(result[i]) - exact) / allowed);
    }
    REQUIRE(worst <= 1);
  });
}

TEST_CASE("pointwise kernels take no rows and refuse what is no multiple of 8", "[elementwise]") {
  Buffer<Bf16> x(16);
  Buffer<float> y(16);
  copy_strided({x.data(), x.data(), 8, 8, 0, 8, 0});
  elementwise_add({x.data(), x.data(), x.data(), 0, 8, 0});
  elementwise_to_heads({x.data(), x.data(), 8, 8, 8, 0, 1, 8, 0});
  elementwise_of_heads({x.data(), x.data(), 8, 8, 8, 0, 1, 8, 0});
  elementwise_sigmoid({y.data(), y.data(), 0, 8, 0});
  synchronise();
  REQUIRE(x[0].bits == 0xffff);
  const auto refusal = Catch::Contains("multiple of 8");
  REQUIRE_THROWS_WITH(copy_strided({x.data(), x.data(), 8, 8, 1, 12, 0}), refusal);
  REQUIRE_THROWS_WITH(elementwise_add({x.data(), x.data(), x.data(), 1, 12, 0}), refusal);
  REQUIRE_THROWS_WITH(elementwise_to_heads({x.data(), x.data(), 8, 8, 8, 1, 1, 12, 0}), refusal);
  REQUIRE_THROWS_WITH(elementwise_of_heads({x.data(), x.data(), 8, 8, 8, 1, 1, 12, 0}), refusal);
  REQUIRE_THROWS_WITH(elementwise_sigmoid({y.data(), y.data(), 1, 12, 0}), refusal);
  const auto strides = Catch::Contains("strides are multiples of 8");
  REQUIRE_THROWS_WITH(copy_strided({x.data(), x.data(), 12, 8, 1, 8, 0}), strides);
  REQUIRE_THROWS_WITH(elementwise_to_heads({x.data(), x.data(), 8, 12, 8, 1, 1, 8, 0}), strides);
  REQUIRE_THROWS_WITH(elementwise_of_heads({x.data(), x.data(), 8, 8, 12, 1, 1, 8, 0}), strides);
}

}  // namespace pipecast::kernels
