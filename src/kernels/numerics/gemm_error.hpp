/// The error of an FP8 matrix product: of its operands' rounding, and of the tensor cores' sum.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "kernels/numerics/errors.hpp"
#include "kernels/numerics/fp8_product.hpp"

namespace pipecast::kernels {

/// C[rows, columns] = A[rows, k] * B[columns, k]^T of random matrices.
struct GemmErrorCase {
  int rows{};
  int columns{};
  int k{};              ///< a multiple of 32
  int promotion{};      ///< partial sums are added in FP32 every so many of k; 0: never
  int fraction_bits{};  ///< of the tensor cores' accumulator, 1 to 23
  Fp8Kind format{};
  ScaleTile a_tile{};
  ScaleTile b_tile{};  ///< rows of it are columns of C
  ScaleKind scales{};
  SampleKind samples{};
  std::uint64_t seed{};
};

struct GemmErrors {
  ErrorSums accumulation{};  ///< against the exact product of the rounded operands
  ErrorSums rounding{};      ///< of that against the exact product of the matrices
  ErrorSums total{};         ///< of the result against the exact product of the matrices
};

/// The operands of a case, rounded and unpacked, ready for some rows of the product at a time.
class GemmErrorStudy {
 public:
  /// @throws Error on extents that are not positive or not multiples of 32, on bits outside of 1 to
  ///         23, and on partial sums that would join products of different scales
  explicit GemmErrorStudy(const GemmErrorCase& the_case);

  /// Of rows first .. end - 1 of the product. May be called from several threads.
  [[nodiscard]] GemmErrors errors_of_rows(int first, int end) const;

 private:
  struct Operand {
    SampleMatrix exact{};
    Fp8Operand fp8{};
    std::vector<double> values{};  // codes times their scales, exactly
  };
  [[nodiscard]] Operand operand(int rows, const ScaleTile& tile, std::string_view purpose) const;

  GemmErrorCase case_;
  Operand a_;
  Operand b_;
};

}  // namespace pipecast::kernels
