#include <catch2/catch.hpp>
#include <vector>

#include "kernels/gemm/fp8_gemm.hpp"
#include "run.hpp"

namespace pipecast::kernels {
namespace {

using namespace testing;

/// FP64 product of the same FP8 codes and scales.
std::vector<double> product(const Buffer<E4m3>& a, const Buffer<E4m3>& b,
                            const Buffer<float>& a_scale, const Buffer<float>& b_scale, int m,
                            int n, int k) {
  const auto at = [](int i) { return static_cast<std::size_t>(i); };
  std::vector<double> d(at(m) * at(n));
  for (int i = 0; i < m; ++i) {
    for (int j = 0; j < n; ++j) {
      double sum = 0;
      for (int x = 0; x < k; ++x) {
        sum += static_cast<double>(to_float(a[at(i * k + x)])) *
               static_cast<double>(to_float(b[at(j * k + x)])) *
               static_cast<double>(a_scale[at(x / 128 * m + i)]) *
               static_cast<double>(b_scale[at(j / 128 * (k / 128) + x / 128)]);
      }
      d[at(i * n + j)] = sum;
    }
  }
  return d;
}

}  // namespace

TEST_CASE("an FP8 GEMM is the scaled product of its codes, at ragged extents", "[fp8_gemm]") {
  const auto [m, n, k] = GENERATE(std::tuple{128, 128, 1152}, std::tuple{1, 8, 128},
                                  std::tuple{200, 136, 256}, std::tuple{129, 264, 128});
  CAPTURE(m, n, k);
  const auto size = [](int rows, int columns) {
    return static_cast<std::size_t>(rows) * static_cast<std::size_t>(columns);
  };
  const auto a = as_e4m3(normal_values(size(m, k), 1, 100.0F));
  const auto b = as_e4m3(normal_values(size(n, k), 2, 100.0F));
  // Scales of one magnitude, all different.
  const auto scales = [](std::size_t count, float first) {
    Buffer<float> values(count);
    for (std::size_t i = 0; i < count; ++i) {
      values[i] = first * (1.0F + static_cast<float>(i % 97) / 97.0F);
    }
    return values;
  };
  const auto a_scale = scales(size(k / 128, m), 0.01F);
  const auto b_scale = scales(size((n + 127) / 128, k / 128), 0.02F);
  const std::vector<double> expected = product(a, b, a_scale, b_scale, m, n, k);
  in_every_order([&] {
    Buffer<Bf16> d(size(m, n));
    fp8_gemm({a.data(), b.data(), a_scale.data(), b_scale.data(), d.data(), m, n, k, 0});
    synchronise();
    // In units of the results' deviation: BF16 rounds values of up to 5 to 2^-9; each 128 of K drop up
    // to 2^-13 of a largest term of 1.5 from 132 terms.
    REQUIRE(worst_error(d, expected) < 5 * 0x1p-9 + 132 * 1.5 * 0x1p-13);
  });
}

}  // namespace pipecast::kernels
