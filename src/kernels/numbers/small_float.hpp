#pragma once

namespace pipecast::kernels {

/// A binary floating-point format of a sign, an exponent with bias 2^(bits - 1) - 1, and a mantissa
/// with subnormals: the formats of this folder, and any other that a study asks about.
struct SmallFloat {
  int exponent_bits;  // 2 to 8
  int mantissa_bits;  // 1 to 23
  bool infinity;      // the highest exponent is for infinity and NaN, as in IEEE 754; if not, only
                      // the highest mantissa of it is, and for NaN, as in E4M3
};

constexpr SmallFloat kFormatE4m3{4, 3, false};
constexpr SmallFloat kFormatE5m2{5, 2, true};
constexpr SmallFloat kFormatE5m6{5, 6, true};
constexpr SmallFloat kFormatFp16{5, 10, true};
constexpr SmallFloat kFormatBf16{8, 7, true};
constexpr SmallFloat kFormatFp32{8, 23, true};

double largest_value(const SmallFloat& format);
double smallest_normal(const SmallFloat& format);
double smallest_subnormal(const SmallFloat& format);

/// The nearest value of the format, ties to even, saturating at the largest finite one; NaN stays.
double rounded(double value, const SmallFloat& format);

}  // namespace pipecast::kernels
