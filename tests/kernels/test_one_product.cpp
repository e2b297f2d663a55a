/// What the tensor cores compute, instruction by instruction: in emulation this pins the emulation,
/// on a GPU it compares the hardware with it.
#include <catch2/catch.hpp>
#include <cmath>
#include <vector>

#include "kernels/numbers/tensor_core.hpp"
#include "kernels/probes/one_product.hpp"
#include "run.hpp"

namespace pipecast::kernels {
namespace {

using namespace testing;

constexpr int kRows = 64;

}  // namespace

TEST_CASE("an FP8 wgmma has the model's bits at every width", "[one_product]") {
  const int n = GENERATE(64, 128, 192, 256);
  const int k = 128;
  CAPTURE(n);
  // Magnitudes from subnormal to the largest, so that alignment truncates.
  const auto spread = [](std::size_t count, std::uint64_t seed) {
    auto values = normal_values(count, seed);
    const auto scales = normal_values(count, seed + 100, 3.0F);
    for (std::size_t i = 0; i < count; ++i) values[i] *= std::exp2(scales[i]);
    return as_e4m3(values);
  };
  const auto a = spread(static_cast<std::size_t>(kRows * k), 1);
  const auto b = spread(static_cast<std::size_t>(n * k), 2);
  in_every_order([&] {
    Buffer<float> d(static_cast<std::size_t>(kRows * n));
    one_product_fp8(a.data(), b.data(), d.data(), n);
    synchronise();
    for (int row = 0; row < kRows; ++row) {
      for (int column = 0; column < n; ++column) {
        float expected = 0;
        for (int step = 0; step < k; step += Fp8Operands::kCount) {
          expected = accumulate(expected, unpack(a.data() + row * k + step),
                                unpack(b.data() + column * k + step), kHopperFractionBits);
        }
        REQUIRE(bits_of(d[static_cast<std::size_t>(row * n + column)]) == bits_of(expected));
      }
    }
  });
}

TEST_CASE("a BF16 wgmma multiplies operands of either major order, or from registers",
          "[one_product]") {
  const int n = GENERATE(64, 128, 192, 256);
  const auto [a_by_k, b_by_k, in_registers] = GENERATE(
      std::tuple{true, true, false}, std::tuple{true, false, false}, std::tuple{false, true, false},
      std::tuple{false, false, false}, std::tuple{true, true, true}, std::tuple{true, false, true});
  const int k = 64;
  CAPTURE(n, a_by_k, b_by_k, in_registers);
  const auto a = as_bf16(normal_values(static_cast<std::size_t>(kRows * k), 3));
  const auto b = as_bf16(normal_values(static_cast<std::size_t>(n * k), 4));
  const auto at = [k](const Buffer<Bf16>& values, int i, int x, int extent, bool by_k) {
    return static_cast<double>(
        to_float(values[static_cast<std::size_t>(by_k ? i * k + x : x * extent + i)]));
  };
  choose_order(1);
  Buffer<float> d(static_cast<std::size_t>(kRows * n));
  one_product_bf16({a.data(), b.data(), d.data(), n, a_by_k, b_by_k, in_registers});
  synchronise();
  choose_order(0);
  for (int row = 0; row < kRows; ++row) {
    for (int column = 0; column < n; ++column) {
      double expected = 0;
      double magnitude = 0;
      for (int x = 0; x < k; ++x) {
        const double term = at(a, row, x, kRows, a_by_k) * at(b, column, x, n, b_by_k);
        expected += term;
        magnitude += std::abs(term);
      }
      // Four instructions, each rounding or truncating a sum to FP32.
      const double actual = static_cast<double>(d[static_cast<std::size_t>(row * n + column)]);
      REQUIRE(std::abs(actual - expected) <= 4 * std::ldexp(magnitude, -22));
    }
  }
}

TEST_CASE("an FP8 sum drops what lies 14 bits under its largest term, a chain of sums too",
          "[one_product]") {
  // Row 0: 2^8 * 1, then 2^-6 * 1 thirty-one times: each is 2^-14 of the largest and vanishes.
  Buffer<E4m3> a(std::vector<E4m3>(static_cast<std::size_t>(kRows * 128), to_e4m3(0.0F)));
  Buffer<E4m3> b(std::vector<E4m3>(static_cast<std::size_t>(64 * 128), to_e4m3(1.0F)));
  const float smallest = std::ldexp(1.0F, -6);
  a[0] = to_e4m3(256.0F);
  for (std::size_t x = 1; x < 32; ++x) a[x] = to_e4m3(smallest);
  // Row 1: as many at 2^-13 of the largest stay.
  a[128] = to_e4m3(128.0F);
  for (std::size_t x = 1; x < 32; ++x) a[128 + x] = to_e4m3(smallest);
  Buffer<float> d(static_cast<std::size_t>(kRows * 64));
  one_product_fp8(a.data(), b.data(), d.data(), 64);
  synchronise();
  REQUIRE(d[0] == 256.0F);
  REQUIRE(d[64] == 128.0F + 31.0F * smallest);
}

TEST_CASE("a NaN among FP8 operands reaches its row and column alone", "[one_product]") {
  Buffer<E4m3> a(std::vector<E4m3>(static_cast<std::size_t>(kRows * 128), to_e4m3(1.0F)));
  Buffer<E4m3> b(std::vector<E4m3>(static_cast<std::size_t>(64 * 128), to_e4m3(1.0F)));
  a[static_cast<std::size_t>(5 * 128 + 77)] = to_e4m3(NAN);
  b[static_cast<std::size_t>(9 * 128 + 3)] = to_e4m3(NAN);
  Buffer<float> d(static_cast<std::size_t>(kRows * 64));
  one_product_fp8(a.data(), b.data(), d.data(), 64);
  synchronise();
  for (int row = 0; row < kRows; ++row) {
    for (int column = 0; column < 64; ++column) {
      const float value = d[static_cast<std::size_t>(row * 64 + column)];
      if (row == 5 || column == 9) {
        REQUIRE(std::isnan(value));
      } else {
        REQUIRE(value == 128.0F);
      }
    }
  }
}

}  // namespace pipecast::kernels
