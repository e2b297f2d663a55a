/// Work that goes on at another speed.
#pragma once

#include "base/units.hpp"

namespace pipecast {

/// What is left of a task whose time from beginning to end was `from` and becomes `to`: left * to /
/// from, rounded up.
/// @param from  > 0
constexpr Duration stretched(Duration left, Duration from, Duration to) {
  __extension__ using Wide = __int128;
  const Wide product = Wide{left.count()} * to.count();
  return Duration(static_cast<std::int64_t>((product + from.count() - 1) / from.count()));
}

inline Duration scaled(Duration time, double factor) {
  if (factor == 1) return time;
  return duration_from_picoseconds(static_cast<double>(time.count()) * factor);
}

}  // namespace pipecast
