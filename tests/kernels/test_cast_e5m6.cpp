#include <catch2/catch.hpp>
#include <vector>

#include "kernels/numbers/e5m6.hpp"
#include "kernels/quantise/cast_e5m6.hpp"
#include "kernels/simt/device_error.hpp"
#include "quantised.hpp"

namespace pipecast::kernels {
namespace {

using namespace testing;

/// Code `i` of a packed row: 12 bits, from the bit 12 i of a stream that has its lowest bit first.
std::uint16_t code_at(const Buffer<std::uint8_t>& packed, std::size_t i) {
  unsigned code = 0;
  for (std::size_t bit = 0; bit < 12; ++bit) {
    const std::size_t at = 12 * i + bit;
    code |= (packed[at / 8] >> at % 8 & 1U) << bit;
  }
  return static_cast<std::uint16_t>(code);
}

/// Half the distance between neighbours of a format with 6 bits after the leading one and a
/// smallest exponent of -14.
double half_step_e5m6(double magnitude) {
  const double exponent = magnitude < std::exp2(-14) ? -14 : std::floor(std::log2(magnitude));
  return std::exp2(exponent - 7);
}

}  // namespace

TEST_CASE("E5M6 packs two nearest codes into three bytes, and back", "[cast_e5m6]") {
  // One eight, a part of a warp's turn, just over a turn of 1,024, and more than one SM's blocks
  // take at once.
  const auto [rows, columns] =
      GENERATE(std::tuple{1, 8}, std::tuple{3, 40}, std::tuple{1, 1032}, std::tuple{129, 264});
  CAPTURE(rows, columns);
  const auto source = as_bf16(uneven_values(rows, columns, 1));
  in_every_order([&, rows = rows, columns = columns] {
    Buffer<std::uint8_t> packed(extent(rows, columns) / 2 * 3);
    Buffer<Bf16> back(extent(rows, columns));
    cast_e5m6({source.data(), packed.data(), rows, columns, 1});
    uncast_e5m6({packed.data(), back.data(), rows, columns, 1});
    synchronise();
    double worst = 0;  // in half steps
    int inexact = 0;   // E5M6 is a part of BF16
    for (std::size_t i = 0; i < source.size(); ++i) {
      const auto largest = static_cast<double>(kLargestE5m6);
      const double exact = std::clamp(static_cast<double>(to_float(source[i])), -largest, largest);
      const auto code = static_cast<double>(to_float(E5m6{code_at(packed, i)}));
      worst = std::max(worst, std::abs(code - exact) / half_step_e5m6(std::abs(exact)));
      inexact += static_cast<double>(to_float(back[i])) == code ? 0 : 1;
    }
    REQUIRE(worst <= 1);
    REQUIRE(inexact == 0);
  });
}

TEST_CASE("E5M6 keeps a NaN and saturates what is too large", "[cast_e5m6]") {
  std::vector<float> values(16, 1.0F);
  values[1] = std::numeric_limits<float>::quiet_NaN();
  values[2] = std::numeric_limits<float>::infinity();
  values[3] = -1e30F;
  values[4] = 1e-30F;
  const auto source = as_bf16(values);
  in_every_order([&] {
    Buffer<std::uint8_t> packed(24);
    Buffer<Bf16> back(16);
    cast_e5m6({source.data(), packed.data(), 2, 8, 1});
    uncast_e5m6({packed.data(), back.data(), 2, 8, 1});
    synchronise();
    REQUIRE(to_float(back[0]) == 1.0F);
    REQUIRE(std::isnan(to_float(back[1])));
    REQUIRE(to_float(back[2]) == kLargestE5m6);
    REQUIRE(to_float(back[3]) == -kLargestE5m6);
    REQUIRE(to_float(back[4]) == 0.0F);
  });
}

TEST_CASE("E5M6 casts take no rows and refuse rows that are no multiple of 8", "[cast_e5m6]") {
  Buffer<Bf16> values(16);
  Buffer<std::uint8_t> packed(24);
  cast_e5m6({values.data(), packed.data(), 0, 8, 0});
  uncast_e5m6({packed.data(), values.data(), 0, 8, 0});
  synchronise();
  REQUIRE(std::isnan(to_float(values[0])));
  const auto refusal = Catch::Contains("multiple of 8");
  REQUIRE_THROWS_WITH(cast_e5m6({values.data(), packed.data(), 1, 12, 0}), refusal);
  REQUIRE_THROWS_WITH(uncast_e5m6({packed.data(), values.data(), 1, 12, 0}), refusal);
}

}  // namespace pipecast::kernels
