#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>
#include <limits>
#include <vector>

#include "base/random.hpp"
#include "kernels/numbers/tensor_core.hpp"

namespace pipecast::kernels {
namespace {

constexpr std::size_t kCount = Fp8Operands::kCount;

double truncated(double value, double unit) { return std::trunc(value / unit) * unit; }

/// The definition in FP64, whose 53 bits hold every number in it exactly.
template <class Format>
float definition(float accumulator, const std::vector<Format>& a, const std::vector<Format>& b,
                 int least_exponent, int fraction_bits) {
  const auto exponent = [&](Format code) {
    const double value = std::abs(static_cast<double>(to_float(code)));
    return value == 0 ? least_exponent : std::max(std::ilogb(value), least_exponent);
  };
  int largest = accumulator == 0 ? -1000 : std::max(std::ilogb(accumulator), -126);
  for (std::size_t i = 0; i < kCount; ++i) {
    largest = std::max(largest, exponent(a[i]) + exponent(b[i]));
  }
  const double unit = std::ldexp(1.0, largest - fraction_bits);
  double sum = truncated(static_cast<double>(accumulator), unit);
  for (std::size_t i = 0; i < kCount; ++i) {
    sum +=
        truncated(static_cast<double>(to_float(a[i])) * static_cast<double>(to_float(b[i])), unit);
  }
  if (sum == 0) return 0;
  const double last_place = std::ldexp(1.0, std::ilogb(sum) - fraction_bits);
  return static_cast<float>(truncated(sum, std::max(last_place, unit)));
}

template <class Format>
std::vector<Format> random_codes(Random& random, std::uint8_t nan_from) {
  std::vector<Format> out;
  while (out.size() < kCount) {
    const auto code = static_cast<std::uint8_t>(random.below(256));
    if ((code & 0x7fU) < nan_from) out.push_back({code});
  }
  return out;
}

template <class Format>
void require_definition(std::uint8_t nan_from, int least_exponent, int fraction_bits) {
  Random random(1, "operands");
  for (int round = 0; round < 300; ++round) {
    float accumulator = 0;
    for (int step = 0; step < 8; ++step) {
      const auto a = random_codes<Format>(random, nan_from);
      const auto b = random_codes<Format>(random, nan_from);
      const float expected = definition(accumulator, a, b, least_exponent, fraction_bits);
      accumulator = accumulate(accumulator, unpack(a.data()), unpack(b.data()), fraction_bits);
      REQUIRE(accumulator == expected);
    }
  }
}

std::vector<E4m3> all_of(float value) { return std::vector<E4m3>(kCount, to_e4m3(value)); }

}  // namespace

TEST_CASE("a step of the tensor core is its definition in FP64", "[numbers]") {
  const int fraction_bits = GENERATE(1, 8, 13, 22, 23);
  CAPTURE(fraction_bits);
  require_definition<E4m3>(0x7f, -6, fraction_bits);
  require_definition<E5m2>(0x7c, -14, fraction_bits);
}

TEST_CASE("sums that fit into the bits are exact, and one bit too small is lost", "[numbers]") {
  std::vector<E4m3> a = all_of(0.0F);
  const std::vector<E4m3> ones = all_of(1.0F);
  const auto add = [&](float accumulator) {
    return accumulate(accumulator, unpack(a.data()), unpack(ones.data()), kHopperFractionBits);
  };
  // 2^13 + 1 has thirteen fraction bits; 2^14 + 1 would need one more.
  a[7] = to_e4m3(1.0F);
  REQUIRE(add(8192.0F) == 8193.0F);
  REQUIRE(add(16384.0F) == 16384.0F);
  // Truncated, not rounded: 1.875 is lost as well; and towards zero from below as from above.
  a[7] = to_e4m3(1.875F);
  REQUIRE(add(16384.0F) == 16384.0F);
  a[7] = to_e4m3(-1.875F);
  REQUIRE(add(16384.0F) == 16384.0F);
  // Thirty-two lost ones are lost together: no sum before the alignment.
  a = all_of(1.0F);
  REQUIRE(add(16384.0F) == 16384.0F);
  REQUIRE(add(8192.0F) == 8192.0F + 32.0F);
}

TEST_CASE("operands of a step may lie apart", "[numbers]") {
  std::vector<E4m3> wide(3 * kCount);
  for (std::size_t i = 0; i < wide.size(); ++i) wide[i] = to_e4m3(static_cast<float>(i % 3));
  const Fp8Operands operands = unpack(&wide[2], 3);
  for (const float value : operands.value) REQUIRE(value == 2.0F);
}

TEST_CASE("NaN and infinity come out as IEEE arithmetic has them", "[numbers]") {
  const float infinity = std::numeric_limits<float>::infinity();
  const auto ones = unpack(all_of(1.0F).data());
  REQUIRE(accumulate(infinity, ones, ones, 13) == infinity);
  REQUIRE(accumulate(-infinity, ones, ones, 13) == -infinity);
  REQUIRE(std::isnan(accumulate(std::numeric_limits<float>::quiet_NaN(), ones, ones, 13)));
  std::vector<E4m3> with_nan = all_of(1.0F);
  with_nan[31] = E4m3{0xff};
  REQUIRE(std::isnan(accumulate(0.0F, unpack(with_nan.data()), ones, 13)));
  std::vector<E5m2> wide(kCount, to_e5m2(1.0F));
  const auto wide_ones = unpack(wide.data());
  wide[3] = E5m2{0x7c};
  REQUIRE(accumulate(0.0F, unpack(wide.data()), wide_ones, 13) == infinity);
  REQUIRE(std::isnan(accumulate(-infinity, unpack(wide.data()), wide_ones, 13)));
  const std::vector<E5m2> zeros(kCount, to_e5m2(0.0F));
  REQUIRE(std::isnan(accumulate(0.0F, unpack(wide.data()), unpack(zeros.data()), 13)));
}

}  // namespace pipecast::kernels
