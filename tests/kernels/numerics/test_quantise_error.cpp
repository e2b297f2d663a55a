#include <catch2/catch.hpp>
#include <cmath>

#include "base/error.hpp"
#include "kernels/numerics/quantise_error.hpp"

namespace pipecast::kernels {
namespace {

using Catch::Matchers::Contains;

QuantiseErrorCase small_case(const SmallFloat& format) {
  return {.rows = 128,
          .columns = 256,
          .how = {.format = format, .tile = {1, 128}, .scales = ScaleKind::kFp32},
          .samples = {},
          .seed = 1};
}

}  // namespace

TEST_CASE("every bit of mantissa halves the error", "[numerics]") {
  const double e5m6 = quantise_errors(small_case(kFormatE5m6)).all.relative_rms;
  const double bf16 = quantise_errors(small_case(kFormatBf16)).all.relative_rms;
  const double e4m3 = quantise_errors(small_case(kFormatE4m3)).all.relative_rms;
  const double e5m2 = quantise_errors(small_case(kFormatE5m2)).all.relative_rms;
  REQUIRE(e5m2 / e4m3 == Approx(2).epsilon(0.1));
  REQUIRE(e4m3 / e5m6 == Approx(8).epsilon(0.1));
  REQUIRE(e5m6 / bf16 == Approx(2).epsilon(0.1));
}

TEST_CASE("no number is off by more than half a last place", "[numerics]") {
  const SmallFloat format = GENERATE(kFormatE5m2, kFormatE5m6, kFormatBf16);
  const QuantiseErrors errors = quantise_errors(small_case(format));
  REQUIRE(errors.below_normal == 0);
  // 2^-(m+1), and FP32's own rounding of scale, its reciprocal and the product.
  const double half_place = std::ldexp(1.0, -format.mantissa_bits - 1);
  REQUIRE(errors.all.largest_relative <= half_place + std::ldexp(4.0, -24));
}

TEST_CASE("a power of two as scale costs at most a bit of range, and saturates nothing",
          "[numerics]") {
  QuantiseErrorCase one = small_case(kFormatE4m3);
  const double exact = quantise_errors(one).all.relative_rms;
  one.how.scales = ScaleKind::kPowerOfTwo;
  const QuantiseErrors rounded_up = quantise_errors(one);
  REQUIRE(rounded_up.all.relative_rms < 1.2 * exact);
  REQUIRE(rounded_up.all.relative_rms > exact / 1.2);
}

TEST_CASE("outliers push the rest out of E4M3's range, a small tile shields it", "[numerics]") {
  QuantiseErrorCase one = small_case(kFormatE4m3);
  one.samples.outliers = {.fraction = 0.001, .factor = 1e6};
  const QuantiseErrors tiled = quantise_errors(one);
  one.how.tile = {};
  const QuantiseErrors whole = quantise_errors(one);
  // The largest is 1e6 or more: the scale 1e6 / 448, and half the least number of the format,
  // 2^-10, stands for 2.2. Of a normal distribution 97 % are closer to zero.
  REQUIRE(whole.lost_to_zero > 0.95);
  REQUIRE(whole.bulk.relative_rms > 0.8);
  // With 1 x 128, the tiles that have an outlier are 1 - 0.999^128 = 12 %.
  REQUIRE(tiled.lost_to_zero < 0.13);
  // Five bits of exponent have 2^16 times the range.
  one.how.format = kFormatE5m6;
  REQUIRE(quantise_errors(one).lost_to_zero < 0.01);
}

TEST_CASE("edge tiles have scales of their own", "[numerics]") {
  SampleMatrix matrix{2, 3, {1.0F, 2.0F, 448.0F, 0.0F, 0.0F, -7.0F}};
  const QuantisedMatrix codes =
      quantised(matrix, {.format = kFormatE4m3, .tile = {1, 2}, .scales = ScaleKind::kFp32});
  REQUIRE(codes.scales.size() == 4);
  REQUIRE(codes.scale(0, 2) == 1.0F);
  REQUIRE(codes.codes.at(0, 1) == 448.0F);
  REQUIRE(codes.scale(1, 0) == 1.0F);  // of zeros
  REQUIRE(codes.codes.at(1, 2) == -448.0F);
  REQUIRE(dequantised(codes)[5] == Approx(-7.0));
}

TEST_CASE("tensors without numbers and negative tiles are refused", "[numerics]") {
  QuantiseErrorCase one = small_case(kFormatE4m3);
  one.how.tile = {-1, 4};
  REQUIRE_THROWS_WITH(quantise_errors(one), Contains("a tile of -1x4: extents are positive"));
  one.rows = 0;
  REQUIRE_THROWS_WITH(quantise_errors(one), Contains("a tensor of 0 rows and 256 columns"));
}

}  // namespace pipecast::kernels
