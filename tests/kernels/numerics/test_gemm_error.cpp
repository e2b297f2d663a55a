#include <catch2/catch.hpp>
#include <cmath>

#include "base/error.hpp"
#include "kernels/numerics/gemm_error.hpp"

namespace pipecast::kernels {
namespace {

using Catch::Matchers::Contains;

GemmErrorCase small_case() {
  return {.rows = 16,
          .columns = 16,
          .k = 2048,
          .promotion = 128,
          .fraction_bits = kHopperFractionBits,
          .format = Fp8Kind::kE4m3,
          .a_tile = {},
          .b_tile = {},
          .scales = ScaleKind::kFp32,
          .samples = {},
          .seed = 1};
}

GemmErrors errors_of(const GemmErrorCase& one) {
  return GemmErrorStudy(one).errors_of_rows(0, one.rows);
}

double sum_rms(const GemmErrorCase& one) {
  return errors_of(one).accumulation.measures().relative_rms;
}

}  // namespace

TEST_CASE("with promotion the error of a sum does not grow with its length", "[numerics]") {
  const auto distribution = GENERATE(Distribution::kNormal, Distribution::kUniform);
  GemmErrorCase one = small_case();
  one.samples.distribution = distribution;
  one.k = 512;
  const double brief = sum_rms(one);
  one.k = 8192;
  // Sixteen times as long: four times the error if truncations of either sign added up, sixteen if
  // of one. Where the scale puts the numbers between powers of two makes up to a third.
  const double growth = sum_rms(one) / brief;
  REQUIRE(growth < 1.5);
  REQUIRE(growth > 1 / 1.5);
}

TEST_CASE("without promotion numbers of one sign lose a share that grows with the length",
          "[numerics]") {
  // The sum after s products is s/4, its last place 2^(floor(log2(s/4)) - 13); every product loses
  // about half of one: relative to the sum, a share proportional to its length.
  GemmErrorCase one = small_case();
  one.samples.distribution = Distribution::kUniform;
  one.promotion = 0;
  one.k = 1024;
  const double brief = sum_rms(one);
  one.k = 4096;
  REQUIRE(sum_rms(one) / brief == Approx(4).epsilon(0.25));
}

TEST_CASE("fewer bits and rarer promotion make a larger error", "[numerics]") {
  GemmErrorCase one = small_case();
  double last = 0;
  for (const int bits : {20, 16, 13, 10, 7}) {
    one.fraction_bits = bits;
    const double error = sum_rms(one);
    REQUIRE(error > last);
    last = error;
  }
  one.fraction_bits = kHopperFractionBits;
  last = 0;
  for (const int promotion : {32, 128, 512, 0}) {
    one.promotion = promotion;
    const double error = sum_rms(one);
    REQUIRE(error > last);
    last = error;
  }
}

TEST_CASE("sums as wide as FP32 are the exact ones to its precision", "[numerics]") {
  GemmErrorCase one = small_case();
  one.fraction_bits = 23;
  // A step truncates 33 numbers by less than a last place of the largest, 2^-23 of it; the four
  // steps before a promotion and the FP32 sum of 16 partial ones stay of that order.
  REQUIRE(sum_rms(one) < 1e-6);
}

TEST_CASE("a scale per row or tile moves the result by its rounding alone", "[numerics]") {
  GemmErrorCase one = small_case();
  one.a_tile = {1, 128};
  one.b_tile = {128, 128};
  const GemmErrors errors = errors_of(one);
  // Half a last place of E4M3 is at most 2^-4 of a number; errors are independent, so that the
  // relative error of a sum is about that of a product: sqrt(2) times that of a number.
  REQUIRE(errors.rounding.measures().relative_rms < std::sqrt(2.0) / 16);
  REQUIRE(errors.rounding.measures().relative_rms > errors.accumulation.measures().relative_rms);
  REQUIRE(errors.total.measures().relative_rms ==
          Approx(errors.rounding.measures().relative_rms).epsilon(0.01));
  one.format = Fp8Kind::kE5m2;
  // One bit less: twice the error.
  REQUIRE(errors_of(one).rounding.measures().relative_rms ==
          Approx(2 * errors.rounding.measures().relative_rms).epsilon(0.1));
}

TEST_CASE("a power of two as scale changes neither rounding nor sums of normal numbers",
          "[numerics]") {
  // Codes shift their exponents together; only subnormal ones feel it, and E5M2 has none here.
  GemmErrorCase one = small_case();
  one.format = Fp8Kind::kE5m2;
  one.scales = ScaleKind::kPowerOfTwo;
  const ErrorMeasures scaled = errors_of(one).accumulation.measures();
  one.scales = ScaleKind::kNone;
  const ErrorMeasures plain = errors_of(one).accumulation.measures();
  REQUIRE(scaled.relative_rms == Approx(plain.relative_rms).epsilon(1e-3));
}

TEST_CASE("rows may be examined apart", "[numerics]") {
  const GemmErrorCase one = small_case();
  const GemmErrorStudy study(one);
  GemmErrors parts = study.errors_of_rows(0, 5);
  parts.total.merge(study.errors_of_rows(5, one.rows).total);
  const ErrorMeasures whole = study.errors_of_rows(0, one.rows).total.measures();
  REQUIRE(parts.total.measures().largest_over_mean == Approx(whole.largest_over_mean));
  REQUIRE(parts.total.measures().largest_relative == whole.largest_relative);
  REQUIRE(parts.total.measures().relative_rms == Approx(whole.relative_rms));
}

TEST_CASE("impossible products are refused with a reason", "[numerics]") {
  const auto refusal = [](const auto& change, const char* reason) {
    GemmErrorCase one = small_case();
    change(one);
    REQUIRE_THROWS_WITH(GemmErrorStudy(one), Contains(reason));
  };
  refusal([](auto& one) { one.k = 100; }, "k = 100: a positive multiple of 32");
  refusal([](auto& one) { one.rows = 0; }, "0 rows and 16 columns");
  refusal([](auto& one) { one.promotion = 48; }, "promotion every 48: a multiple of 32");
  refusal([](auto& one) { one.fraction_bits = 24; }, "24 fraction bits: 1 to 23");
  refusal(
      [](auto& one) {
        one.a_tile = {1, 128};
        one.promotion = 256;
      },
      "scales of 128 along k need promotion every 128 or a divisor of it, not 256");
  refusal(
      [](auto& one) {
        one.b_tile = {128, 128};
        one.promotion = 0;
      },
      "not none");
}

}  // namespace pipecast::kernels
