#include <algorithm>
#include <catch2/catch.hpp>
#include <vector>

#include "fp8_products.hpp"
#include "kernels/gemm/bf16_gemm.hpp"
#include "kernels/simt/device_error.hpp"
#include "run.hpp"

namespace pipecast::kernels {
namespace {

using namespace testing;
using Catch::Matchers::Contains;

/// Operands of D[m, n], either stored transposed, and the D to add to.
struct Operands {
  int m;
  int n;
  int k;
  bool a_transposed = false;
  bool b_transposed = false;
  int groups = 1;
  Buffer<Bf16> a = as_bf16(normal_values(area(m, k), 1));
  Buffer<Bf16> b = as_bf16(normal_values(area(groups * n, k), 2));
  std::vector<float> before = normal_values(area(m, n), 3, 10.0F);

  std::size_t a_at(int row, int x) const {
    return a_transposed ? area(x, m) + static_cast<std::size_t>(row)
                        : area(row, k) + static_cast<std::size_t>(x);
  }
  std::size_t b_at(int column, int x, int group = 0) const {
    const std::size_t first = area(group * n, k);
    return first + (b_transposed ? area(x, n) + static_cast<std::size_t>(column)
                                 : area(column, k) + static_cast<std::size_t>(x));
  }
};

/// Products in FP64 of the right side of one group, and how far an FP32 sum may be from them.
struct Expected {
  reference::Matrix value;
  reference::Matrix bound;

  Bounded at(int row, int column) const { return {value(row, column), bound(row, column)}; }
};

/// Products of BF16 are exact in FP32; every one of k additions loses less than 2^-23 of the
/// largest partial sum, which is at most the sum of absolute values (truncation, as tensor cores
/// add).
Expected expected_of(const Operands& p, int group = 0) {
  const auto a = matrix_of(p.m, p.k, [&](int row, int x) { return to_float(p.a[p.a_at(row, x)]); });
  const auto b = matrix_of(
      p.n, p.k, [&](int column, int x) { return to_float(p.b[p.b_at(column, x, group)]); });
  return {reference::product(a, b),
          reference::product(a.cwiseAbs(), b.cwiseAbs()) * (p.k * 0x1p-23)};
}

/// Counts the results that are further from what they should be than they may.
class Comparison {
 public:
  /// @param rounding  relative, of what is done to the sum at the end
  void add(float actual, const Bounded& sum, double before, double rounding) {
    const double expected = before + sum.value;
    const double distance = std::abs(static_cast<double>(actual) - expected);
    const double allowed = sum.bound + rounding * (std::abs(expected) + sum.bound);
    if (!(distance <= allowed)) ++outside_;
  }
  int outside() const { return outside_; }

 private:
  int outside_ = 0;
};

Bf16Gemm problem(const Operands& p) {
  return {p.a.data(),
          p.b.data(),
          p.a_transposed,
          p.b_transposed,
          nullptr,
          nullptr,
          false,
          p.m,
          p.n,
          p.k,
          0,
          0};
}

constexpr double kBf16Half = 0x1p-8;  // half of the last place, relative: 8 significant bits
constexpr double kFp32Half = 0x1p-24;

std::vector<std::uint32_t> bits_of(const Buffer<Bf16>& values) {
  std::vector<std::uint32_t> bits;
  for (const Bf16 value : values) bits.push_back(value.bits);
  return bits;
}
std::vector<std::uint32_t> bits_of(const Buffer<float>& values) {
  std::vector<std::uint32_t> bits;
  for (const float value : values) bits.push_back(kernels::bits_of(value));
  return bits;
}

/// Runs in every order and requires the same bits; returns the result.
template <class Result, class Run>
Buffer<Result> same_in_every_order(const Buffer<Result>& before, const Run& run) {
  Buffer<Result> first;
  in_every_order([&] {
    Buffer<Result> d(std::vector<Result>(before.begin(), before.end()));
    run(d.data());
    synchronise();
    if (first.size() == 0) {
      first = std::move(d);
    } else {
      REQUIRE((bits_of(d) == bits_of(first)));
    }
  });
  return first;
}

}  // namespace

TEST_CASE("a BF16 GEMM is near the FP64 product, however its operands lie", "[bf16_gemm]") {
  const auto [m, n, k] =
      GENERATE(std::tuple{128, 256, 192}, std::tuple{8, 8, 8}, std::tuple{136, 264, 72},
               // More steps along K than the ring has stages.
               std::tuple{64, 24, 584});
  const auto [a_transposed, b_transposed] =
      GENERATE(std::pair{false, false}, std::pair{false, true}, std::pair{true, true});
  const int block_n = GENERATE(128, 256);
  CAPTURE(m, n, k, a_transposed, b_transposed, block_n);
  const Operands operands{m, n, k, a_transposed, b_transposed};
  Bf16Gemm gemm = problem(operands);
  gemm.block_n = block_n;
  const auto bf16 = same_in_every_order(Buffer<Bf16>(area(m, n)), [&](Bf16* d) {
    gemm.d = d;
    gemm_bf16(gemm);
  });
  gemm.d = nullptr;
  const auto fp32 = same_in_every_order(Buffer<float>(area(m, n)), [&](float* d) {
    gemm.d_fp32 = d;
    gemm_bf16(gemm);
  });
  gemm.add = true;
  Buffer<float> added(operands.before);
  gemm.d_fp32 = added.data();
  gemm_bf16(gemm);
  synchronise();
  const Expected expected = expected_of(operands);
  Comparison comparison;
  int differ = 0;
  for (int row = 0; row < m; ++row) {
    for (int column = 0; column < n; ++column) {
      const std::size_t at = area(row, n) + static_cast<std::size_t>(column);
      const Bounded sum = expected.at(row, column);
      comparison.add(fp32[at], sum, 0, 0);
      comparison.add(to_float(bf16[at]), sum, 0, kBf16Half);
      comparison.add(added[at], sum, static_cast<double>(operands.before[at]), kFp32Half);
      // The same sum, rounded once.
      if (bf16[at].bits != to_bf16(fp32[at]).bits) ++differ;
      if (kernels::bits_of(added[at]) != kernels::bits_of(operands.before[at] + fp32[at])) ++differ;
    }
  }
  REQUIRE(comparison.outside() == 0);
  REQUIRE(differ == 0);
}

TEST_CASE("any number of rows that are not transposed, over any SMs, give the same bits",
          "[bf16_gemm]") {
  const int m = GENERATE(1, 129, 300);
  CAPTURE(m);
  const Operands operands{m, 264, 72};
  Bf16Gemm gemm = problem(operands);
  Buffer<float> all(area(m, operands.n));
  gemm.d_fp32 = all.data();
  gemm_bf16(gemm);
  Buffer<float> one(area(m, operands.n));
  gemm.d_fp32 = one.data();
  gemm.sms = 1;
  gemm_bf16(gemm);
  synchronise();
  REQUIRE((bits_of(one) == bits_of(all)));
  const Expected expected = expected_of(operands);
  Comparison comparison;
  for (int row = 0; row < m; ++row) {
    for (int column = 0; column < operands.n; ++column) {
      comparison.add(all[area(row, operands.n) + static_cast<std::size_t>(column)],
                     expected.at(row, column), 0, 0);
    }
  }
  REQUIRE(comparison.outside() == 0);
}

TEST_CASE("the router's matrix and its two gradients are BF16 products of the same tensors",
          "[bf16_gemm]") {
  const GateGemm gate{GENERATE(1, 130), 16, 72, 0};
  CAPTURE(gate.tokens);
  // scores = x w^T, dx = dscores w, dw = dscores^T x.
  const auto x = as_bf16(normal_values(area(gate.tokens, gate.hidden), 1));
  const auto w = as_bf16(normal_values(area(gate.experts, gate.hidden), 2));
  const auto dscores = as_bf16(normal_values(area(gate.tokens, gate.experts), 3));
  const auto copy = [](const Buffer<Bf16>& values) {
    return Buffer<Bf16>(std::vector<Bf16>(values.begin(), values.end()));
  };

  const Operands forward{gate.tokens, gate.experts, gate.hidden, false, false, 1, copy(x), copy(w)};
  const auto scores =
      same_in_every_order(Buffer<float>(area(gate.tokens, gate.experts)),
                          [&](float* d) { gate_gemm_fwd(gate, x.data(), w.data(), d); });
  const Expected forward_expected = expected_of(forward);
  Comparison of_scores;
  for (int row = 0; row < forward.m; ++row) {
    for (int column = 0; column < forward.n; ++column) {
      of_scores.add(scores[area(row, forward.n) + static_cast<std::size_t>(column)],
                    forward_expected.at(row, column), 0, 0);
    }
  }
  REQUIRE(of_scores.outside() == 0);

  const Operands input{gate.tokens, gate.hidden, gate.experts,  false,
                       true,        1,           copy(dscores), copy(w)};
  const auto dx = same_in_every_order(Buffer<Bf16>(area(gate.tokens, gate.hidden)), [&](Bf16* d) {
    gate_gemm_dgrad(gate, dscores.data(), w.data(), d);
  });
  const Expected input_expected = expected_of(input);
  Comparison of_dx;
  for (int row = 0; row < input.m; ++row) {
    for (int column = 0; column < input.n; ++column) {
      of_dx.add(to_float(dx[area(row, input.n) + static_cast<std::size_t>(column)]),
                input_expected.at(row, column), 0, kBf16Half);
    }
  }
  REQUIRE(of_dx.outside() == 0);

  const Operands weight{gate.experts, gate.hidden, gate.tokens,   true,
                        true,         1,           copy(dscores), copy(x)};
  const auto dw = same_in_every_order(Buffer<float>(weight.before), [&](float* d) {
    gate_gemm_wgrad(gate, dscores.data(), x.data(), d);
  });
  const Expected weight_expected = expected_of(weight);
  Comparison of_dw;
  for (int row = 0; row < weight.m; ++row) {
    for (int column = 0; column < weight.n; ++column) {
      const std::size_t at = area(row, weight.n) + static_cast<std::size_t>(column);
      of_dw.add(dw[at], weight_expected.at(row, column), static_cast<double>(weight.before[at]),
                kFp32Half);
    }
  }
  REQUIRE(of_dw.outside() == 0);
}

TEST_CASE("a grouped BF16 GEMM gives each row the product of its expert", "[bf16_gemm]") {
  // Expert 1 without rows, all rows with expert 1, none at all; room past the last.
  const std::vector<int> offsets =
      GENERATE(std::vector<int>{0, 128, 128, 384}, std::vector<int>{0, 0, 128, 128},
               std::vector<int>{0, 0, 0, 0});
  const bool b_transposed = GENERATE(false, true);
  const int block_n = GENERATE(128, 256);
  CAPTURE(offsets, b_transposed, block_n);
  const int m = offsets.back() + 128;
  const Operands operands{m, 136, b_transposed ? 64 : 72, false, b_transposed, 3};
  const Buffer<int> starts(offsets);
  const auto d = same_in_every_order(Buffer<Bf16>(area(m, operands.n)), [&](Bf16* result) {
    grouped_gemm_bf16({operands.a.data(), operands.b.data(), b_transposed, starts.data(), result, 3,
                       m, operands.n, operands.k, 0, block_n});
  });
  std::vector<Expected> expected;
  for (int expert = 0; expert < 3; ++expert) expected.push_back(expected_of(operands, expert));
  Comparison comparison;
  for (int row = 0; row < m; ++row) {
    const auto next = std::upper_bound(offsets.begin(), offsets.end(), row);
    const int expert = static_cast<int>(next - offsets.begin()) - 1;
    for (int column = 0; column < operands.n; ++column) {
      const Bf16 actual = d[area(row, operands.n) + static_cast<std::size_t>(column)];
      if (next == offsets.end()) {
        REQUIRE(actual.bits == 0xffff);
      } else {
        comparison.add(to_float(actual), expected[static_cast<std::size_t>(expert)].at(row, column),
                       0, kBf16Half);
      }
    }
  }
  REQUIRE(comparison.outside() == 0);
}

TEST_CASE("NaN and infinity in an operand of a BF16 GEMM stay in their row or column",
          "[bf16_gemm]") {
  const bool transposed = GENERATE(false, true);
  Operands operands{136, 136, 72, transposed, transposed};
  const int nan_row = 70;
  const int infinite_row = 5;
  const int nan_column = 130;
  for (int x = 0; x < operands.k; ++x) operands.a[operands.a_at(infinite_row, x)] = to_bf16(0.0F);
  operands.a[operands.a_at(nan_row, 71)] = to_bf16(NAN);
  operands.a[operands.a_at(infinite_row, 3)] = to_bf16(INFINITY);
  operands.b[operands.b_at(nan_column, 0)] = to_bf16(NAN);
  Bf16Gemm gemm = problem(operands);
  Buffer<float> d(area(operands.m, operands.n));
  gemm.d_fp32 = d.data();
  gemm_bf16(gemm);
  synchronise();
  for (int row = 0; row < operands.m; ++row) {
    for (int column = 0; column < operands.n; ++column) {
      const float value = d[area(row, operands.n) + static_cast<std::size_t>(column)];
      CAPTURE(row, column);
      REQUIRE(std::isnan(value) == (row == nan_row || column == nan_column));
      if (row == infinite_row && column != nan_column) {
        const float weight = to_float(operands.b[operands.b_at(column, 3)]);
        REQUIRE(value == std::copysign(INFINITY, weight));
      }
    }
  }
}

TEST_CASE("BF16 GEMMs of no rows or no depth do nothing, and refuse what they cannot compute",
          "[bf16_gemm]") {
  Buffer<float> d(std::vector<float>(64, 1.0F));
  Bf16Gemm gemm{nullptr, nullptr, false, false, nullptr, d.data(), false, 0, 8, 8, 0, 0};
  REQUIRE_NOTHROW(gemm_bf16(gemm));
  REQUIRE_NOTHROW(gemm_bf16_wgrad({nullptr, nullptr, d.data(), 8, 8, 0, 0}));
  REQUIRE(std::vector<float>(d.begin(), d.end()) == std::vector<float>(64, 1.0F));
  gemm.m = 8;
  gemm.k = 0;
  REQUIRE_THROWS_WITH(gemm_bf16(gemm), Contains("only adds"));
  gemm.k = 12;
  REQUIRE_THROWS_WITH(gemm_bf16(gemm), Contains("multiples of 16 bytes"));
  gemm.k = 8;
  gemm.block_n = 64;
  REQUIRE_THROWS_WITH(gemm_bf16(gemm), Contains("128 or 256 columns"));
  gemm.block_n = 0;
  gemm.a_transposed = true;
  REQUIRE_THROWS_WITH(gemm_bf16(gemm), Contains("only its left operand"));
  gemm.a_transposed = false;
  gemm.d_fp32 = nullptr;
  REQUIRE_THROWS_WITH(gemm_bf16(gemm), Contains("one result"));
  Bf16 result{};
  gemm.d = &result;
  gemm.add = true;
  REQUIRE_THROWS_WITH(gemm_bf16(gemm), Contains("only FP32"));
  gemm.n = -8;
  REQUIRE_THROWS_WITH(gemm_bf16(gemm), Contains("negative"));
  ContiguousBf16Gemm grouped{nullptr, nullptr, false, nullptr, &result, 1, 0, 8, 8, 0, 0};
  REQUIRE_NOTHROW(grouped_gemm_bf16(grouped));
  grouped.m = 64;
  REQUIRE_THROWS_WITH(grouped_gemm_bf16(grouped), Contains("padded to 128"));
}

}  // namespace pipecast::kernels
