#pragma once

/// What tests of FP8 products share: operands with scales, the product as a plain loop over the
/// tensor core's arithmetic, and its value in FP64 with a bound on the loop's distance from it.
#include <algorithm>
#include <cmath>
#include <vector>

#include "kernels/memory/buffer.hpp"
#include "kernels/numbers/fp8.hpp"
#include "kernels/numbers/tensor_core.hpp"
#include "kernels/reference/gemm.hpp"
#include "run.hpp"

namespace pipecast::kernels::testing {

constexpr int kScaleDepth = 128;  // elements along K that share a scale, and are promoted together

inline std::size_t area(int rows, int columns) {
  return static_cast<std::size_t>(rows) * static_cast<std::size_t>(columns);
}
inline int ceil_div(int a, int b) { return (a + b - 1) / b; }

/// A matrix of what `at(row, column)` says.
template <class At>
reference::Matrix matrix_of(int rows, int columns, const At& at) {
  reference::Matrix matrix(rows, columns);
  for (int row = 0; row < rows; ++row) {
    for (int column = 0; column < columns; ++column) {
      matrix(row, column) = static_cast<double>(at(row, column));
    }
  }
  return matrix;
}

/// Codes of a row-major operand without their scales.
inline reference::Matrix codes_of(const Buffer<E4m3>& codes, int rows, int columns) {
  return matrix_of(rows, columns, [&](int row, int column) {
    return to_float(codes[area(row, columns) + static_cast<std::size_t>(column)]);
  });
}

/// Scales that lie by block of K, then by row, as a matrix of rows by blocks.
inline reference::Matrix scales_by_block(const Buffer<float>& scales, int rows, int blocks) {
  return matrix_of(rows, blocks, [&](int row, int block) {
    return scales[area(block, rows) + static_cast<std::size_t>(row)];
  });
}

/// Scales that differ from row to row and from block to block, between 2^-8 and 2^-5.
inline Buffer<float> random_scales(std::size_t count, std::uint64_t seed) {
  std::mt19937_64 generator(seed);
  std::uniform_real_distribution<float> exponent(-8.0F, -5.0F);
  Buffer<float> scales(count);
  for (float& scale : scales) scale = std::exp2(exponent(generator));
  return scales;
}

/// Normal values that use most of the range of E4M3.
inline Buffer<E4m3> random_codes(std::size_t count, std::uint64_t seed) {
  return as_e4m3(normal_values(count, seed, 100.0F));
}

/// A row of an operand, in the pieces of 32 that a tensor core takes; zeros after its end.
class UnpackedRow {
 public:
  UnpackedRow(const E4m3* codes, int k) {
    const auto padded = static_cast<std::size_t>(ceil_div(k, kScaleDepth) * kScaleDepth);
    std::vector<E4m3> row(padded, E4m3{0});
    std::copy_n(codes, k, row.begin());
    for (std::size_t at = 0; at < padded; at += Fp8Operands::kCount) {
      pieces_.push_back(unpack(row.data() + at));
    }
  }
  int blocks() const { return static_cast<int>(pieces_.size()) / kPieces; }
  const Fp8Operands& piece(int block, int i) const {
    return pieces_[static_cast<std::size_t>(block * kPieces + i)];
  }
  static constexpr int kPieces = kScaleDepth / Fp8Operands::kCount;

 private:
  std::vector<Fp8Operands> pieces_;
};

inline std::vector<UnpackedRow> unpack_rows(const E4m3* codes, int rows, int k, int stride = 0) {
  std::vector<UnpackedRow> unpacked;
  for (int row = 0; row < rows; ++row) {
    unpacked.emplace_back(codes + area(row, stride == 0 ? k : stride), k);
  }
  return unpacked;
}

/// The sum over K as the kernels promise it, bit for bit: 128 products in the tensor core, then one
/// FP32 multiply-add with the product of both scales. `scale(block)` is that product.
template <class Scale>
float promoted_sum(const UnpackedRow& a, const UnpackedRow& b, const Scale& scale) {
  float sum = 0;
  for (int block = 0; block < a.blocks(); ++block) {
    float part = 0;
    for (int i = 0; i < UnpackedRow::kPieces; ++i) {
      part = accumulate(part, a.piece(block, i), b.piece(block, i), kHopperFractionBits);
    }
    sum = std::fmaf(part, scale(block), sum);
  }
  return sum;
}

/// A value and how far from it a result may be.
struct Bounded {
  double value = 0;
  double bound = 0;
};

/// The same sum in FP64 with a bound on what FP8 with promotion makes of it. In a step of 32
/// products, each of them and the accumulator lose less than 2^-13 of the largest among them, and
/// their sum less than 2^-13 of itself; a promotion rounds the scale, the product and the sum,
/// 2^-24 each.
template <class Scale>
Bounded exact_sum(const UnpackedRow& a, const UnpackedRow& b, const Scale& scale) {
  constexpr double kSmallestNormal = 0x1p-6;  // subnormals are aligned as if they had its exponent
  constexpr double kTerms = Fp8Operands::kCount + 1;
  Bounded sum;
  for (int block = 0; block < a.blocks(); ++block) {
    Bounded part;
    for (int i = 0; i < UnpackedRow::kPieces; ++i) {
      double largest = std::abs(part.value) + part.bound;
      for (int x = 0; x < Fp8Operands::kCount; ++x) {
        const auto left = static_cast<double>(a.piece(block, i).value[x]);
        const auto right = static_cast<double>(b.piece(block, i).value[x]);
        largest = std::max(largest, std::max(std::abs(left), kSmallestNormal) *
                                        std::max(std::abs(right), kSmallestNormal));
        part.value += left * right;
      }
      part.bound += std::ldexp(kTerms * largest, -kHopperFractionBits);
      part.bound += std::ldexp(std::abs(part.value) + part.bound, -kHopperFractionBits);
    }
    const auto factor = static_cast<double>(scale(block));
    sum.value += part.value * factor;
    sum.bound += part.bound * factor;
    sum.bound += 3 * 0x1p-24 * (std::abs(part.value * factor) + std::abs(sum.value) + sum.bound);
  }
  return sum;
}

}  // namespace pipecast::kernels::testing
