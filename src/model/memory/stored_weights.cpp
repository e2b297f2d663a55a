#include "model/memory/stored_weights.hpp"

#include "base/error.hpp"

namespace pipecast {

namespace {

constexpr std::int64_t kBf16Bytes = 2;
constexpr std::int64_t kScaleBytes = 4;

}  // namespace

Bytes plain_bytes(Precision precision, std::int64_t count) {
  return Bytes(
      static_cast<std::int64_t>(bytes_per_element(precision) * static_cast<double>(count)));
}

std::int64_t scale_blocks(const ParameterTensor& t) {
  constexpr std::int64_t kBlockWidth = 128;  // a scale's block has as many rows and columns
  return ceil_div(t.rows, kBlockWidth) * ceil_div(t.columns, kBlockWidth);
}

Bytes stored_weight_bytes(const ParameterTensor& t, Precision linear) {
  require(linear == Precision::kBf16 || linear == Precision::kFp8,
          "linear layers are stored in bf16 or fp8, not {}", name_of(linear));
  const bool quantised = t.role == TensorRole::kLinear || t.role == TensorRole::kExpert;
  if (!quantised || linear == Precision::kBf16) return Bytes(t.parameters() * kBf16Bytes);
  return Bytes(t.parameters() + t.copies * scale_blocks(t) * kScaleBytes);
}

}  // namespace pipecast
