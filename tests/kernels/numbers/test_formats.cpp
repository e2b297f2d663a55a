#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>
#include <limits>
#include <vector>

#include "kernels/numbers/bf16.hpp"
#include "kernels/numbers/e5m6.hpp"
#include "kernels/numbers/fp8.hpp"
#include "kernels/numbers/small_float.hpp"

namespace pipecast::kernels {
namespace {

/// A format under test: its conversions, and how wide it is.
struct Tested {
  const char* name;
  SmallFloat format;
  float (*decode)(std::uint32_t code);
  std::uint32_t (*encode)(float value);
  std::uint32_t nan;
  bool saturates;
};

const Tested kTested[] = {
    {"E4M3", kFormatE4m3,
     [](std::uint32_t code) { return to_float(E4m3{static_cast<std::uint8_t>(code)}); },
     [](float value) -> std::uint32_t { return to_e4m3(value).bits; }, 0x7f, true},
    {"E5M2", kFormatE5m2,
     [](std::uint32_t code) { return to_float(E5m2{static_cast<std::uint8_t>(code)}); },
     [](float value) -> std::uint32_t { return to_e5m2(value).bits; }, 0x7f, true},
    {"E5M6", kFormatE5m6,
     [](std::uint32_t code) { return to_float(E5m6{static_cast<std::uint16_t>(code)}); },
     [](float value) -> std::uint32_t { return to_e5m6(value).bits; }, 0x7ff, true},
    {"BF16", kFormatBf16,
     [](std::uint32_t code) { return to_float(Bf16{static_cast<std::uint16_t>(code)}); },
     [](float value) -> std::uint32_t { return to_bf16(value).bits; }, 0x7fff, false},
};

std::uint32_t sign_bit(const SmallFloat& format) {
  return 1U << (format.exponent_bits + format.mantissa_bits);
}

/// The definition, in FP64: fields of a code below the sign to the value of a finite number.
double value_of(std::uint32_t fields, const SmallFloat& format) {
  const int bias = (1 << (format.exponent_bits - 1)) - 1;
  const auto exponent = static_cast<int>(fields >> format.mantissa_bits);
  const double mantissa = std::ldexp(
      static_cast<double>(fields & ((1U << format.mantissa_bits) - 1)), -format.mantissa_bits);
  return exponent == 0 ? std::ldexp(mantissa, 1 - bias) : std::ldexp(1 + mantissa, exponent - bias);
}

/// Codes of positive finite numbers: up to this one, excluded.
std::uint32_t end_of_finite(const SmallFloat& format) {
  const std::uint32_t all = sign_bit(format);
  return format.infinity ? all - (1U << format.mantissa_bits) : all - 1;
}

float above(float value) { return std::nextafter(value, std::numeric_limits<float>::infinity()); }
float below(float value) { return std::nextafter(value, -std::numeric_limits<float>::infinity()); }

}  // namespace

TEST_CASE("every code has the value of its fields and comes back", "[numbers]") {
  for (const Tested& one : kTested) {
    INFO(one.name);
    const std::uint32_t sign = sign_bit(one.format);
    for (std::uint32_t fields = 0; fields < end_of_finite(one.format); ++fields) {
      const double expected = value_of(fields, one.format);
      REQUIRE(static_cast<double>(one.decode(fields)) == expected);
      REQUIRE(static_cast<double>(one.decode(fields | sign)) == -expected);
      REQUIRE(std::signbit(one.decode(fields | sign)));
      REQUIRE(one.encode(one.decode(fields)) == fields);
      REQUIRE(one.encode(one.decode(fields | sign)) == (fields | sign));
      REQUIRE(rounded(-expected, one.format) == -expected);
    }
  }
}

TEST_CASE("codes past the finite ones are infinity and NaN", "[numbers]") {
  for (const Tested& one : kTested) {
    INFO(one.name);
    std::uint32_t first_nan = end_of_finite(one.format);
    if (one.format.infinity) {
      REQUIRE(one.decode(first_nan) == std::numeric_limits<float>::infinity());
      REQUIRE(one.decode(first_nan | sign_bit(one.format)) ==
              -std::numeric_limits<float>::infinity());
      ++first_nan;
    }
    for (std::uint32_t fields = first_nan; fields < sign_bit(one.format); ++fields) {
      REQUIRE(std::isnan(one.decode(fields)));
      REQUIRE(std::isnan(one.decode(fields | sign_bit(one.format))));
    }
    REQUIRE(one.encode(std::numeric_limits<float>::quiet_NaN()) == one.nan);
    REQUIRE(std::isnan(rounded(std::numeric_limits<double>::quiet_NaN(), one.format)));
  }
}

TEST_CASE("between two neighbours the nearer is taken, and at the middle the even code",
          "[numbers]") {
  for (const Tested& one : kTested) {
    INFO(one.name);
    const std::uint32_t sign = sign_bit(one.format);
    for (std::uint32_t low = 0; low + 1 < end_of_finite(one.format); ++low) {
      const std::uint32_t high = low + 1;
      // Exact in FP32: a format has fewer bits by far.
      const auto middle =
          static_cast<float>((value_of(low, one.format) + value_of(high, one.format)) / 2);
      const std::uint32_t even = low % 2 == 0 ? low : high;
      CAPTURE(low, middle);
      REQUIRE(one.encode(middle) == even);
      REQUIRE(one.encode(-middle) == (even | sign));
      REQUIRE(one.encode(below(middle)) == low);
      REQUIRE(one.encode(above(middle)) == high);
      REQUIRE(rounded(static_cast<double>(middle), one.format) == value_of(even, one.format));
      REQUIRE(rounded(static_cast<double>(below(middle)), one.format) == value_of(low, one.format));
      REQUIRE(rounded(static_cast<double>(above(middle)), one.format) ==
              value_of(high, one.format));
    }
  }
}

TEST_CASE("past the largest number formats saturate, and BF16 becomes infinite", "[numbers]") {
  const float infinity = std::numeric_limits<float>::infinity();
  for (const Tested& one : kTested) {
    INFO(one.name);
    const std::uint32_t last = end_of_finite(one.format) - 1;
    const auto largest = static_cast<float>(value_of(last, one.format));
    REQUIRE(static_cast<double>(largest) == largest_value(one.format));
    REQUIRE(one.encode(largest) == last);
    REQUIRE(one.encode(above(largest)) == last);
    REQUIRE(rounded(static_cast<double>(infinity), one.format) == static_cast<double>(largest));
    REQUIRE(one.encode(infinity) == (one.saturates ? last : last + 1));
    REQUIRE(one.encode(-infinity) == ((one.saturates ? last : last + 1) | sign_bit(one.format)));
  }
  // Half a last place past the largest, BF16 is nearer to 2^128, which it has not.
  REQUIRE(to_bf16(float_of(0x7f7f7fff)).bits == 0x7f7f);
  REQUIRE(to_bf16(float_of(0x7f7f8000)).bits == 0x7f80);
}

TEST_CASE("the smallest numbers follow from bias and mantissa", "[numbers]") {
  for (const Tested& one : kTested) {
    INFO(one.name);
    REQUIRE(smallest_subnormal(one.format) == value_of(1, one.format));
    REQUIRE(smallest_normal(one.format) == value_of(1U << one.format.mantissa_bits, one.format));
    const auto least = static_cast<float>(value_of(1, one.format));
    REQUIRE(one.encode(least / 2) == 0);
    REQUIRE(one.encode(above(least / 2)) == 1);
    REQUIRE(one.encode(-least / 2) == sign_bit(one.format));
  }
}

TEST_CASE("any format is monotonous, odd and idempotent", "[numbers][property]") {
  const int exponent_bits = GENERATE(2, 4, 5, 8);
  const int mantissa_bits = GENERATE(1, 3, 10, 23);
  const bool infinity = GENERATE(false, true);
  const SmallFloat format{exponent_bits, mantissa_bits, infinity};
  CAPTURE(exponent_bits, mantissa_bits, infinity);
  double last = 0;
  for (double value = smallest_subnormal(format) / 4; value < 4 * largest_value(format);
       value *= 1.0007) {
    const double result = rounded(value, format);
    REQUIRE(result >= last);
    REQUIRE(rounded(result, format) == result);
    REQUIRE(rounded(-value, format) == -result);
    // Half a last place, the larger of a normal and of a subnormal one.
    const double half_place =
        std::max(std::ldexp(value, -mantissa_bits - 1), smallest_subnormal(format) / 2);
    if (value <= largest_value(format)) REQUIRE(std::abs(result - value) <= half_place);
    last = result;
    if (exponent_bits == 8) value *= 1.2;  // many octaves
  }
}

TEST_CASE("FP32 as a small format is FP32", "[numbers]") {
  for (double value = 1e-44; value < 1e38; value *= 1.37) {
    REQUIRE(rounded(value, kFormatFp32) == static_cast<double>(static_cast<float>(value)));
  }
}

TEST_CASE("packed values stand in their order", "[numbers]") {
  REQUIRE(pack_bf16(1.0F, -2.0F) == 0xc0003f80U);
  // 1 = 2^0: exponent field 7; 2: 8; -1 with the sign; 0.
  REQUIRE(pack_e4m3(1.0F, 2.0F, -1.0F, 0.0F) == (0x38U | 0x40U << 8 | 0xb8U << 16));
}

}  // namespace pipecast::kernels
