#include "model/operations/operation.hpp"

#include <cmath>

namespace pipecast {

Bytes stored_bytes(Precision p, std::int64_t rows, std::int64_t columns) {
  constexpr std::int64_t kScaleTile = 128;  // elements of a row that share a scale
  constexpr std::int64_t kScaleBytes = 4;   // FP32
  const double elements = static_cast<double>(rows) * static_cast<double>(columns);
  const auto plain = static_cast<std::int64_t>(std::ceil(bytes_per_element(p) * elements));
  const bool scaled = p == Precision::kFp8 || p == Precision::kE5m6;
  return Bytes(scaled ? plain + rows * ceil_div(columns, kScaleTile) * kScaleBytes : plain);
}

}  // namespace pipecast
