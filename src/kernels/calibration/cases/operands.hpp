/// What cases fill their operands with, and how far results may be sampled.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <memory>
#include <vector>

#include "base/random.hpp"
#include "kernels/memory/buffer.hpp"

namespace pipecast::kernels {

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

/// Elements of a result whose reference is worked out: all of a small one, else spread over it so
/// that every tile's corner and interior may be among them.
inline std::vector<std::int64_t> sampled(std::int64_t elements) {
  constexpr std::int64_t kMost = 512;
  std::vector<std::int64_t> out;
  if (elements <= kMost) {
    for (std::int64_t i = 0; i < elements; ++i) out.push_back(i);
    return out;
  }
  Random random(1, "elements that are checked");
  out = {0, elements - 1};
  while (static_cast<std::int64_t>(out.size()) < kMost) {
    out.push_back(static_cast<std::int64_t>(random.below(static_cast<std::uint64_t>(elements))));
  }
  return out;
}

/// Largest difference over the root mean square of what was expected; NaN is infinitely far.
class WorstError {
 public:
  void add(double actual, double expected) {
    const double difference = std::abs(actual - expected);
    if (std::isnan(difference)) {
      worst_ = HUGE_VAL;
    } else {
      worst_ = std::max(worst_, difference);
    }
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
