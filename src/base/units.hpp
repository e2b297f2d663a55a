/// Physical quantities as types: a number with the wrong dimension does not compile.
#pragma once

#include <cmath>
#include <compare>
#include <cstdint>
#include <limits>

#include "base/assert.hpp"

namespace pipecast {

/// A quantity of one dimension, held as `Rep` in the unit that its factory names. Addition and
/// comparison stay within the dimension; there is no way back to a bare number but count().
template <class Dimension, class Rep>
class Quantity {
 public:
  constexpr Quantity() = default;
  explicit constexpr Quantity(Rep value) : value_(value) {}
  [[nodiscard]] constexpr Rep count() const { return value_; }

  constexpr auto operator<=>(const Quantity&) const = default;
  constexpr Quantity& operator+=(Quantity other) {
    value_ += other.value_;
    return *this;
  }
  constexpr Quantity& operator-=(Quantity other) {
    value_ -= other.value_;
    return *this;
  }
  friend constexpr Quantity operator+(Quantity a, Quantity b) {
    return Quantity(a.value_ + b.value_);
  }
  friend constexpr Quantity operator-(Quantity a, Quantity b) {
    return Quantity(a.value_ - b.value_);
  }
  friend constexpr Quantity operator*(Quantity a, Rep factor) {
    return Quantity(a.value_ * factor);
  }
  friend constexpr Quantity operator*(Rep factor, Quantity a) { return a * factor; }

 private:
  Rep value_{};
};

using Duration = Quantity<struct DurationDimension, std::int64_t>;  ///< picoseconds
using Bytes = Quantity<struct BytesDimension, std::int64_t>;        ///< bytes
using Flops =
    Quantity<struct FlopsDimension, double>;  ///< floating-point operations (one run passes 2^63)
using Bandwidth = Quantity<struct BandwidthDimension, double>;  ///< bytes per second
using FlopRate =
    Quantity<struct FlopRateDimension, double>;  ///< floating-point operations per second
using Frequency = Quantity<struct FrequencyDimension, double>;  ///< hertz
using Usd = Quantity<struct UsdDimension, double>;              ///< United States dollars
using Tokens = Quantity<struct TokensDimension, std::int64_t>;  ///< tokens

/// A point in simulated time: picoseconds since the start of the step.
class Time {
 public:
  constexpr Time() = default;
  explicit constexpr Time(std::int64_t picoseconds) : value_(picoseconds) {}
  [[nodiscard]] constexpr std::int64_t count() const { return value_; }

  constexpr auto operator<=>(const Time&) const = default;
  constexpr Time& operator+=(Duration span) {
    value_ += span.count();
    return *this;
  }
  friend constexpr Time operator+(Time t, Duration span) { return Time(t.value_ + span.count()); }
  friend constexpr Time operator-(Time t, Duration span) { return Time(t.value_ - span.count()); }
  friend constexpr Duration operator-(Time a, Time b) { return Duration(a.value_ - b.value_); }

 private:
  std::int64_t value_{};
};

inline constexpr double kPicosecondsPerSecond = 1e12;

constexpr Duration picoseconds(std::int64_t n) { return Duration(n); }
constexpr Duration nanoseconds(std::int64_t n) { return Duration(n * 1'000); }
constexpr Duration microseconds(std::int64_t n) { return Duration(n * 1'000'000); }
constexpr Duration milliseconds(std::int64_t n) { return Duration(n * 1'000'000'000); }
constexpr Duration seconds(std::int64_t n) { return Duration(n * 1'000'000'000'000); }

constexpr double to_seconds(Duration d) {
  return static_cast<double>(d.count()) / kPicosecondsPerSecond;
}
constexpr double to_seconds(Time t) {
  return static_cast<double>(t.count()) / kPicosecondsPerSecond;
}
constexpr double to_microseconds(Duration d) { return static_cast<double>(d.count()) / 1e6; }

/// The only way from a real number of picoseconds to a Duration. Rounds up, so positive work never
/// takes zero time. A value beyond the range of Duration (106 days) breaks the assertion.
inline Duration duration_from_picoseconds(double value) {
  const double ps = std::ceil(value);
  PIPECAST_ASSERT(ps >= 0 && ps < static_cast<double>(std::numeric_limits<std::int64_t>::max()));
  return Duration(static_cast<std::int64_t>(ps));
}

inline Duration duration_from_seconds(double value) {
  return duration_from_picoseconds(value * kPicosecondsPerSecond);
}

inline Duration operator/(Bytes work, Bandwidth rate) {
  return duration_from_picoseconds(static_cast<double>(work.count()) * kPicosecondsPerSecond /
                                   rate.count());
}
inline Duration operator/(Flops work, FlopRate rate) {
  return duration_from_picoseconds(work.count() * kPicosecondsPerSecond / rate.count());
}

/// Start of cycle `n` of a clock, floor(n * 1e12 / clock_hz), computed from n so that errors never
/// add up.
/// @param clock_hz  an integer number of hertz, > 0
constexpr Time cycle_start(std::int64_t n, std::int64_t clock_hz) {
  __extension__ using Wide = __int128;
  return Time(static_cast<std::int64_t>(static_cast<Wide>(n) * 1'000'000'000'000 / clock_hz));
}

constexpr std::int64_t ceil_div(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }

}  // namespace pipecast
