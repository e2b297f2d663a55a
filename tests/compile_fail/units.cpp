/// Compiled twice per rule, by tests/compile_fail/CMakeLists.txt: with an expression that the units
/// must refuse, and with its nearest correct neighbour.
#include "base/units.hpp"

namespace pipecast {

[[maybe_unused]] constexpr Bytes kBytes{1};
[[maybe_unused]] constexpr Duration kSpan{1};
[[maybe_unused]] constexpr Time kPoint{1};
[[maybe_unused]] constexpr Bandwidth kBandwidth{1.0};
[[maybe_unused]] constexpr FlopRate kFlopRate{1.0};
[[maybe_unused]] constexpr Flops kFlops{1.0};

[[maybe_unused]] inline Bandwidth take_bandwidth(Bandwidth rate) { return rate; }
[[maybe_unused]] inline Duration take_duration(Duration span) { return span; }
[[maybe_unused]] inline double take_number(double number) { return number; }

[[maybe_unused]] inline auto expression() { return PIPECAST_EXPRESSION; }

}  // namespace pipecast
