#include "sim/engine/event_store.hpp"

#include <algorithm>
#include <bit>
#include <utility>

#include "base/assert.hpp"

namespace pipecast {

void EventFifo::reserve(std::size_t events) {
  if (events <= ring_.size()) return;
  std::vector<QueuedEvent> larger(std::bit_ceil(events));
  const std::size_t count = size();
  for (std::size_t i = 0; i < count; ++i) larger[i] = ring_[(head_ + i) & (ring_.size() - 1)];
  ring_ = std::move(larger);
  head_ = 0;
  tail_ = count;
}

void ChunkPool::grow() { reserve(std::max<std::size_t>(64, 2 * chunks_.size())); }

void ChunkPool::reserve(std::size_t chunks) {
  PIPECAST_ASSERT(chunks < kNone);
  const std::size_t old = chunks_.size();
  if (chunks <= old) return;
  chunks_.resize(chunks);
  next_.resize(chunks);
  for (std::size_t chunk = chunks; chunk-- > old;) {
    next_[chunk] = free_;
    free_ = static_cast<std::uint32_t>(chunk);
  }
}

}  // namespace pipecast
