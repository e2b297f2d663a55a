/// Number formats of tensors and matrix products.
#pragma once

#include <string_view>

namespace pipecast {

/// Storage formats. kFp8 stands for E4M3 with one FP32 scale per 128 elements (1x128 tiles of
/// activations), kE5m6 for DeepSeek's 12-bit format of cached attention outputs with the same
/// scales.
enum class Precision { kFp32, kBf16, kFp8, kE5m6 };

/// Bytes of one element, the scales of kFp8 and kE5m6 not counted (they are tensors of their own).
constexpr double bytes_per_element(Precision p) {
  switch (p) {
    case Precision::kFp32:
      return 4;
    case Precision::kBf16:
      return 2;
    case Precision::kFp8:
      return 1;
    case Precision::kE5m6:
      return 1.5;
  }
  return 0;
}

constexpr std::string_view name_of(Precision p) {
  switch (p) {
    case Precision::kFp32:
      return "fp32";
    case Precision::kBf16:
      return "bf16";
    case Precision::kFp8:
      return "fp8";
    case Precision::kE5m6:
      return "e5m6";
  }
  return "";
}

}  // namespace pipecast
