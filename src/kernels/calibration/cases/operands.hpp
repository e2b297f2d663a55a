/// What cases fill their operands with, and how far results may be sampled.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <memory>
#include <vector>

#include "base/random.hpp"
#include "kernels/memory/buffer.hpp"
#include "kernels/numbers/bf16.hpp"
#include "kernels/numbers/fp8.hpp"

namespace pipecast::kernels {

inline std::size_t at(std::int64_t index) { return static_cast<std::size_t>(index); }

inline double number(float value) { return static_cast<double>(value); }
inline double number(Bf16 value) { return number(to_float(value)); }
inline double number(E4m3 value) { return number(to_float(value)); }

/// Normal variates of mean 0, the same ones every time. A large tensor repeats the first million: a
/// kernel's time does not depend on values, and drawing billions of them takes minutes.
template <class Format, class Round>
std::shared_ptr<Buffer<Format>> normal_operand(std::int64_t elements, const char* name,
                                               double deviation, const Round& round) {
  constexpr std::int64_t kDrawn = 1000003;  // a prime: rows of a tensor differ from each other
  const auto count = static_cast<std::size_t>(elements);
  const auto drawn = static_cast<std::size_t>(std::min(elements, kDrawn));
  auto out = std::make_shared<Buffer<Format>>(count);
  Random random(1, name);
  for (std::size_t i = 0; i < drawn; ++i) {
    (*out)[i] = round(static_cast<float>(deviation * random.normal()));
  }
  for (std::size_t i = drawn; i < count; ++i) (*out)[i] = (*out)[i - drawn];
  return out;
}

/// Normal BF16 of deviation 1.
inline std::shared_ptr<Buffer<Bf16>> bf16_operand(std::int64_t elements, const char* name) {
  return normal_operand<Bf16>(elements, name, 1, to_bf16);
}

template <class T>
std::shared_ptr<Buffer<T>> result_of(std::int64_t elements) {
  return std::make_shared<Buffer<T>>(at(elements));
}

/// Elements of a result whose reference is worked out: all of a small one, else spread over it so
/// that every tile's corner and interior may be among them.
inline std::vector<std::int64_t> sampled(std::int64_t elements, std::int64_t most = 512) {
  std::vector<std::int64_t> out;
  if (elements <= most) {
    for (std::int64_t i = 0; i < elements; ++i) out.push_back(i);
    return out;
  }
  Random random(1, "elements that are checked");
  out = {0, elements - 1};
  while (static_cast<std::int64_t>(out.size()) < most) {
    out.push_back(static_cast<std::int64_t>(random.below(static_cast<std::uint64_t>(elements))));
  }
  return out;
}

/// The larger of two errors; NaN is infinitely far, where std::max would forget it.
inline double worse(double worst, double error) {
  return std::isnan(error) ? HUGE_VAL : std::max(worst, error);
}

/// Distance of an E4M3 code times its scale from what it stands for, over what rounding may do:
/// half a step of E4M3 after one of BF16. A right cast stays at or below 1.
inline double fp8_error(double actual, double expected, double scale) {
  const double bf16 = std::abs(expected) * 0x1p-8;
  const double e4m3 = std::max(std::abs(expected) * 0x1p-4, scale * 0x1p-10);
  return std::abs(actual - expected) / (bf16 + e4m3);
}

/// Largest difference over the root mean square of what was expected; NaN is infinitely far.
class WorstError {
 public:
  void add(double actual, double expected) {
    worst_ = worse(worst_, std::abs(actual - expected));
    squares_ += expected * expected;
    ++count_;
  }
  [[nodiscard]] double value() const {
    return squares_ == 0 ? worst_ : worst_ / std::sqrt(squares_ / static_cast<double>(count_));
  }

 private:
  double worst_ = 0;
  double squares_ = 0;
  std::int64_t count_ = 0;
};

}  // namespace pipecast::kernels
