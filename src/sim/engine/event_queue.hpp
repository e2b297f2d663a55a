/// A priority queue for events whose time never runs backwards: a ladder queue (Tang, Goh and Thng
/// 2005) with power-of-two bucket widths. It moves an event two or three times at any queue length,
/// where a binary heap moves it log2(n) times through as many cache misses.
///
/// From the nearest future to the farthest, with `limit` the end of what is sorted:
///
///   lanes   events at the present instant, a FIFO per phase
///   run     a sorted array, the last bucket that was opened
///   fresh   a binary heap of events before `limit` that arrived after the run was sorted
///   rungs   the finest last: arrays of unsorted buckets of equal width 2^shift
///   top     everything later than the coarsest rung, unsorted
///
///   push: at the present -> lane; else the first of top, rungs (coarse to fine), fresh that covers
///         its time
///   pop:  the least of lane, run and fresh; if there is none, open the next bucket of the finest
///         rung: sort it if it is small or holds a single instant, else spread it over a finer
///         rung; a rung with no bucket left is dropped; with no rung left, spread the top
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "base/assert.hpp"
#include "sim/engine/event.hpp"
#include "sim/engine/event_store.hpp"

namespace pipecast {

class EventQueue {
 public:
  /// Takes the memory that `events` pending at once need, so that pushing them allocates little.
  void reserve(std::size_t events);

  /// Adds an event that runs no earlier than the last one popped.
  void push(const QueuedEvent& event) {
    PIPECAST_ASSERT(event.when >= now_);
    if (event.when == now_) {
      lanes_[event.order >> QueuedEvent::kPhaseShift].push(event);
      ++in_lanes_;
    } else if (event.when >= top_start_) {
      top_.push_back(event);
    } else {
      push_below_top(event);
    }
  }

  /// Takes the first event out if it runs at or before `limit` (picoseconds).
  bool pop(std::uint64_t limit, QueuedEvent& out) {
    if (in_lanes_ != 0) return pop_at_present(limit, out);
    while (run_next_ == run_.size() && fresh_.empty()) {
      if (!refill()) return false;
    }
    return pop_sorted(limit, out);
  }

  /// Number of events waiting, counted part by part.
  [[nodiscard]] std::size_t size() const;

 private:
  /// Buckets of width 2^shift from `start`; those before `next` were opened.
  struct Rung {
    std::uint64_t start = 0;
    int shift = 0;
    std::size_t next = 0;
    std::size_t size = 0;
    std::vector<EventBucket> buckets;  ///< at least `size`; keeps its memory between uses

    [[nodiscard]] std::uint64_t next_start() const { return start + (next << shift); }
    EventBucket& bucket_of(std::uint64_t when) {
      return buckets[static_cast<std::size_t>((when - start) >> shift)];
    }
  };

  /// A bucket up to this size is sorted; a larger one is spread over a finer rung.
  static constexpr std::uint32_t kSortedAtOnce = 32;
  static constexpr int kLeastFanOutBits = 6;
  /// Times have 63 bits and a bucket's rung is 2^6 times finer than the bucket, so 12 rungs reach
  /// single picoseconds; with none left a bucket is sorted whatever its size.
  static constexpr std::size_t kMostRungs = 12;
  /// A heap of fresh events larger than this is spread over a rung too.
  static constexpr std::size_t kFreshLimit = 256;

  [[nodiscard]] bool run_is_first() const {
    if (fresh_.empty()) return true;
    return run_next_ != run_.size() && runs_before(run_[run_next_], fresh_.front());
  }

  void push_below_top(const QueuedEvent& event) {
    for (std::size_t i = 0; i < depth_; ++i) {
      Rung& rung = rungs_[i];
      if (event.when >= rung.next_start()) {
        pool_.append(rung.bucket_of(event.when), event);
        return;
      }
    }
    push_fresh(event);
  }

  bool pop_sorted(std::uint64_t limit, QueuedEvent& out) {
    if (run_is_first()) {
      if (run_[run_next_].when > limit) return false;
      out = run_[run_next_++];
    } else {
      if (fresh_.front().when > limit) return false;
      out = fresh_.front();
      pop_fresh();
    }
    now_ = out.when;
    return true;
  }

  bool pop_at_present(std::uint64_t limit, QueuedEvent& out);
  void push_fresh(const QueuedEvent& event);
  void pop_fresh();
  bool refill();
  void open_top();
  void spread_bucket(const Rung& parent, EventBucket& bucket);
  void spread_fresh();
  Rung& add_rung(std::uint64_t start, std::uint64_t span, std::size_t events);
  void move_to_run(EventBucket& bucket);
  void sort_run();

  std::uint64_t now_ = 0;
  std::uint64_t top_start_ = 0;
  std::size_t in_lanes_ = 0;
  std::size_t run_next_ = 0;
  std::size_t depth_ = 0;  ///< rungs in use

  std::vector<QueuedEvent> run_;
  std::vector<QueuedEvent> fresh_;
  std::vector<QueuedEvent> top_;
  ChunkPool pool_;
  std::array<Rung, kMostRungs> rungs_;
  std::array<EventFifo, kEventPhases> lanes_;
};

}  // namespace pipecast
