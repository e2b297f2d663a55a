/// What the engine delivers: plain data, never an object with behaviour.
#pragma once

#include <cstdint>

#include "base/units.hpp"

namespace pipecast {

/// Order of events at one instant; lower runs first: free what ended, hand it out, start work on
/// it, then look at the result.
enum class EventPhase : std::uint8_t { kRelease, kArbitrate, kStart, kObserve };
inline constexpr int kEventPhases = 4;

/// One event. What `kind`, `actor` and `argument` mean is up to whoever handles it.
struct Event {
  Time when;
  EventPhase phase{};
  std::uint32_t kind = 0;
  std::uint32_t actor = 0;
  std::uint64_t argument = 0;
};

/// An event as it waits in the queue. Events run in the order of (time, phase, insertion); the two
/// words in front are that order.
struct QueuedEvent {
  static constexpr int kPhaseShift = 56;  ///< leaves 2^56 insertions, 100 years at 20 M a second

  std::uint64_t when = 0;   ///< picoseconds; never negative, so unsigned comparison is right
  std::uint64_t order = 0;  ///< phase in the top byte, insertion below
  std::uint32_t kind = 0;
  std::uint32_t actor = 0;
  std::uint64_t argument = 0;

  [[nodiscard]] EventPhase phase() const { return static_cast<EventPhase>(order >> kPhaseShift); }
};
static_assert(sizeof(QueuedEvent) == 32, "two events fill a cache line");

/// The total order. Compared as one 128-bit number, which needs no branch.
inline bool runs_before(const QueuedEvent& a, const QueuedEvent& b) {
  __extension__ using Wide = unsigned __int128;
  return (static_cast<Wide>(a.when) << 64 | a.order) < (static_cast<Wide>(b.when) << 64 | b.order);
}

}  // namespace pipecast
