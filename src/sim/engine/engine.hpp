/// The event loop: integer picoseconds, one total order, no object per event. It has never heard of
/// a GPU.
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>

#include "base/assert.hpp"
#include "base/units.hpp"
#include "sim/engine/event.hpp"
#include "sim/engine/event_queue.hpp"

namespace pipecast {

/// Later than every event.
inline constexpr Time kForever{std::numeric_limits<std::int64_t>::max()};

/// Runs events in the order of (time, phase, insertion): of two events at one instant the lower
/// phase runs first, and within a phase the one that was scheduled first.
///
///   while an event is pending and its time is not past the limit:
///     take the first one out
///     now = its time
///     handler(event)          // may schedule events, also at this very instant
///
/// Simulations share nothing: any number of engines may run in one process. One engine belongs to
/// one thread.
class Engine {
 public:
  /// Time of the event being handled, or of the last one; 0 before the first.
  [[nodiscard]] Time now() const { return now_; }

  /// Takes memory for this many pending events at once.
  void reserve(std::size_t pending) { queue_.reserve(pending); }

  /// Adds an event. A time before now() is a defect of the caller and breaks an assertion.
  void schedule(Time when, EventPhase phase, std::uint32_t kind, std::uint32_t actor,
                std::uint64_t argument = 0) {
    PIPECAST_ASSERT(when >= now_);
    const std::uint64_t order =
        static_cast<std::uint64_t>(phase) << QueuedEvent::kPhaseShift | scheduled_++;
    queue_.push({static_cast<std::uint64_t>(when.count()), order, kind, actor, argument});
  }

  /// Handles events up to and including `limit`; later ones stay pending. An exception out of the
  /// handler ends the run: the event that threw is gone, the others stay.
  /// @param handler  called as handler(const Event&), inlined
  template <class Handler>
  void run(Handler&& handler, Time limit = kForever) {
    if (limit < now_) return;
    QueuedEvent next;
    while (queue_.pop(static_cast<std::uint64_t>(limit.count()), next)) {
      now_ = Time(static_cast<std::int64_t>(next.when));
      ++processed_;
      handler(Event{now_, next.phase(), next.kind, next.actor, next.argument});
    }
  }

  /// Events handled so far.
  [[nodiscard]] std::uint64_t processed() const { return processed_; }

  /// Events waiting.
  [[nodiscard]] std::size_t pending() const {
    return static_cast<std::size_t>(scheduled_ - processed_);
  }

  /// Proves after a run that no event was lost: breaks an assertion unless every scheduled event
  /// was handled and the queue, counted part by part, is empty.
  void assert_drained() const { PIPECAST_ASSERT(pending() == 0 && queue_.size() == 0); }

 private:
  EventQueue queue_;
  Time now_;
  std::uint64_t scheduled_ = 0;
  std::uint64_t processed_ = 0;
};

}  // namespace pipecast
