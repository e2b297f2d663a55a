/// Accumulators for what happens in simulated time; integers stay exact.
#pragma once

#include <algorithm>
#include <cstdint>
#include <limits>
#include <optional>

#include "base/assert.hpp"
#include "base/units.hpp"

namespace pipecast {

/// Part of `span` that `busy` fills, 0 for an empty span.
inline double busy_fraction(Duration busy, Duration span) {
  if (span <= Duration{}) return 0;
  return static_cast<double>(busy.count()) / static_cast<double>(span.count());
}

/// Count, sum, least, mean and greatest of integers. The sum has 128 bits, so it is exact.
class Summary {
 public:
  void add(std::int64_t value) {
    ++count_;
    sum_ += value;
    least_ = std::min(least_, value);
    greatest_ = std::max(greatest_, value);
  }

  [[nodiscard]] std::uint64_t count() const { return count_; }
  /// None before the first value.
  [[nodiscard]] std::optional<std::int64_t> least() const { return if_any(least_); }
  [[nodiscard]] std::optional<std::int64_t> greatest() const { return if_any(greatest_); }
  [[nodiscard]] std::optional<double> mean() const {
    if (count_ == 0) return std::nullopt;
    return static_cast<double>(sum_) / static_cast<double>(count_);
  }

 private:
  __extension__ using Wide = __int128;

  [[nodiscard]] std::optional<std::int64_t> if_any(std::int64_t value) const {
    return count_ == 0 ? std::nullopt : std::optional(value);
  }

  std::uint64_t count_ = 0;
  Wide sum_ = 0;
  std::int64_t least_ = std::numeric_limits<std::int64_t>::max();
  std::int64_t greatest_ = std::numeric_limits<std::int64_t>::min();
};

/// Mean over time of a level that changes in steps, such as the length of a queue.
class TimeWeighted {
 public:
  /// The level is `value` from `now` on; 0 before the first call. Calls come in order of time.
  void set(Time now, std::int64_t value) {
    advance(now);
    value_ = value;
    greatest_ = std::max(greatest_, value);
  }

  [[nodiscard]] std::int64_t value() const { return value_; }
  [[nodiscard]] std::int64_t greatest() const { return greatest_; }

  /// Mean of the level from time 0 to `end`, which is no earlier than the last change.
  [[nodiscard]] double mean(Time end) const {
    PIPECAST_ASSERT(end >= since_);
    if (end == Time{}) return 0;
    const Wide area = area_ + static_cast<Wide>(value_) * (end - since_).count();
    return static_cast<double>(area) / static_cast<double>(end.count());
  }

 private:
  __extension__ using Wide = __int128;

  void advance(Time now) {
    PIPECAST_ASSERT(now >= since_);
    area_ += static_cast<Wide>(value_) * (now - since_).count();
    since_ = now;
  }

  Time since_;
  std::int64_t value_ = 0;
  std::int64_t greatest_ = 0;
  Wide area_ = 0;  ///< level times picoseconds
};

}  // namespace pipecast
