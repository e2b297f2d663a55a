/// An FP8 matrix product as Hopper's tensor cores and a kernel around them compute it, without one.
#pragma once

#include <vector>

#include "kernels/numbers/tensor_core.hpp"
#include "kernels/numerics/scaling.hpp"

namespace pipecast::kernels {

enum class Fp8Kind { kE4m3, kE5m2 };

SmallFloat format_of(Fp8Kind kind);

/// A row-major operand, its columns along k, ready for the tensor cores.
struct Fp8Operand {
  QuantisedMatrix rounded{};
  std::vector<Fp8Operands> unpacked{};  ///< by row, then by 32 of k, the last filled up with zeros
  int steps{};                          ///< of a row
};

Fp8Operand fp8_operand(const SampleMatrix& matrix, Fp8Kind kind, const ScaleTile& tile,
                       ScaleKind scales);

struct Fp8Sums {
  int promotion{};      ///< partial sums are added in FP32 every so many of k, a multiple of 32; 0:
                        ///< never
  int fraction_bits{};  ///< of the tensor cores' accumulator, 1 to 23
};

/// Row `row` of A * B^T. A partial sum takes the scales of its first product, so that scales must
/// not change inside of one.
std::vector<float> fp8_product_row(const Fp8Operand& a, int row, const Fp8Operand& b,
                                   const Fp8Sums& sums);

}  // namespace pipecast::kernels
