#include <catch2/catch.hpp>

#include "base/error.hpp"
#include "model/operations/product_shapes.hpp"

using namespace pipecast;

namespace {

constexpr std::int64_t kM = 300;
constexpr std::int64_t kN = 200;
constexpr std::int64_t kK = 500;
// Scales are FP32: 500 elements of depth take four tiles of 128, 200 columns two blocks.
constexpr std::int64_t kDepthTiles = 4;
constexpr std::int64_t kColumnBlocks = 2;

}  // namespace

TEST_CASE("a product computes 2 m n k whatever its kind", "[operations]") {
  const auto* const op =
      GENERATE("gemm_fp8", "grouped_gemm_fp8", "gemm_fp8_wgrad", "gemm_bf16", "grouped_gemm_bf16",
               "gemm_bf16_wgrad", "gate_gemm_fwd", "gate_gemm_dgrad", "gate_gemm_wgrad");
  const Operation product = product_operation(op, kM, kN, kK, 1);
  REQUIRE(product.op == op);
  REQUIRE(product.flops == Flops(2.0 * kM * kN * kK));
  REQUIRE(product.m == kM);
  REQUIRE(product.n == kN);
  REQUIRE(product.k == kK);
}

TEST_CASE("FP8 activations carry a scale per 128 of a row, weights one per 128 x 128 block",
          "[operations]") {
  const std::int64_t groups = GENERATE(1, 3);
  const auto* const op = groups == 1 ? "gemm_fp8" : "grouped_gemm_fp8";
  const Operation product = product_operation(op, kM, kN, kK, groups);
  const std::int64_t activations = kM * (kK + kDepthTiles * 4);
  const std::int64_t weights = kN * kK + kColumnBlocks * kDepthTiles * 4;
  REQUIRE(product.precision == Precision::kFp8);
  REQUIRE(product.read == Bytes(activations + groups * weights));
  REQUIRE(product.written == Bytes(kM * kN * 2));
}

TEST_CASE("BF16 operands carry no scales", "[operations]") {
  const auto* const op = GENERATE("gemm_bf16", "gate_gemm_fwd", "gate_gemm_dgrad");
  const Operation product = product_operation(op, kM, kN, kK, 1);
  REQUIRE(product.precision == Precision::kBf16);
  REQUIRE(product.read == Bytes((kM * kK + kN * kK) * 2));
  REQUIRE(product.written == Bytes(kM * kN * 2));
}

TEST_CASE("a weight gradient reads and writes its accumulator", "[operations]") {
  const auto [accumulator, bytes] =
      GENERATE(std::pair{Precision::kFp32, 4}, std::pair{Precision::kBf16, 2});
  const Operation fp8 = product_operation("gemm_fp8_wgrad", kM, kN, kK, 1, accumulator);
  REQUIRE(fp8.written == Bytes(kM * kN * bytes));
  REQUIRE(fp8.read == fp8.written + Bytes((kM + kN) * (kK + kDepthTiles * 4)));
  const Operation bf16 = product_operation("gate_gemm_wgrad", kM, kN, kK, 1, accumulator);
  REQUIRE(bf16.read == bf16.written + Bytes((kM + kN) * kK * 2));
}

TEST_CASE("what is no product, or has no sensible extents, is refused", "[operations]") {
  REQUIRE_THROWS_WITH(product_operation("rope", 1, 1, 1, 1), "rope is no matrix product");
  REQUIRE_THROWS_WITH(product_operation("gemm_bf16", -1, 1, 2, 1),
                      "gemm_bf16: extents must not be negative, groups be positive: m=-1 n=1 k=2 "
                      "groups=1");
  REQUIRE_THROWS_WITH(product_operation("gemm_bf16", 1, 1, 2, 0),
                      "gemm_bf16: extents must not be negative, groups be positive: m=1 n=1 k=2 "
                      "groups=0");
}
