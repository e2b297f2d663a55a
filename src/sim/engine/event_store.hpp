/// Containers of the event queue: memory is taken once and reused, never per event.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "sim/engine/event.hpp"

namespace pipecast {

/// First in, first out, in a ring whose capacity is a power of two.
class EventFifo {
 public:
  [[nodiscard]] bool empty() const { return head_ == tail_; }
  [[nodiscard]] std::size_t size() const { return tail_ - head_; }
  [[nodiscard]] const QueuedEvent& front() const { return ring_[head_ & (ring_.size() - 1)]; }

  /// Takes memory for at least this many events.
  void reserve(std::size_t events);

  void push(const QueuedEvent& event) {
    if (size() == ring_.size()) reserve(size() + 1);
    ring_[tail_++ & (ring_.size() - 1)] = event;
  }
  void pop() { ++head_; }

 private:
  std::vector<QueuedEvent> ring_;
  std::size_t head_ = 0;
  std::size_t tail_ = 0;
};

/// An unordered set of events: a list of chunks in a pool.
struct EventBucket {
  std::uint32_t first = 0;  ///< chunk; meaningless while the bucket is empty
  std::uint32_t last = 0;
  std::uint32_t count = 0;
};

/// The chunks of all buckets. A chunk given back is the next one handed out, while it is in cache.
class ChunkPool {
 public:
  static constexpr std::uint32_t kChunkEvents = 8;  ///< 256 bytes: four cache lines in a row

  void reserve(std::size_t chunks);

  void append(EventBucket& bucket, const QueuedEvent& event) {
    const std::uint32_t slot = bucket.count % kChunkEvents;
    if (slot == 0) {
      const std::uint32_t chunk = take();
      if (bucket.count == 0) {
        bucket.first = chunk;
      } else {
        next_[bucket.last] = chunk;
      }
      bucket.last = chunk;
    }
    chunks_[bucket.last].events[slot] = event;
    ++bucket.count;
  }

  /// Calls `visit` with every event in order of insertion.
  template <class Visit>
  void for_each(const EventBucket& bucket, Visit&& visit) const {
    std::uint32_t chunk = bucket.first;
    for (std::uint32_t left = bucket.count; left > 0;) {
      const std::uint32_t here = left < kChunkEvents ? left : kChunkEvents;
      for (std::uint32_t slot = 0; slot < here; ++slot) visit(chunks_[chunk].events[slot]);
      left -= here;
      chunk = next_[chunk];
    }
  }

  /// Empties the bucket and returns its chunks to the pool.
  void release(EventBucket& bucket) {
    if (bucket.count == 0) return;
    next_[bucket.last] = free_;
    free_ = bucket.first;
    bucket = {};
  }

 private:
  struct alignas(64) Chunk {
    QueuedEvent events[kChunkEvents];
  };
  static constexpr std::uint32_t kNone = 0xffff'ffff;

  std::uint32_t take() {
    if (free_ == kNone) grow();
    const std::uint32_t chunk = free_;
    free_ = next_[chunk];
    return chunk;
  }
  void grow();

  std::vector<Chunk> chunks_;
  std::vector<std::uint32_t> next_;  ///< the next chunk of the bucket, or of the free list
  std::uint32_t free_ = kNone;
};

}  // namespace pipecast
