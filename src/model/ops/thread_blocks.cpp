#include "model/ops/thread_blocks.hpp"

#include <algorithm>
#include <numeric>
#include <vector>

#include "base/assert.hpp"
#include "base/units.hpp"

namespace pipecast {

namespace {

/// Adds to the least of a min-heap. Taking it out and putting it back, as the standard library does,
/// takes four times as long.
void delay_first(std::vector<double>& heap, double by) {
  const double value = heap.front() + by;
  std::size_t hole = 0;
  for (;;) {
    std::size_t child = 2 * hole + 1;
    if (child >= heap.size()) break;
    if (child + 1 < heap.size() && heap[child + 1] < heap[child]) ++child;
    if (heap[child] >= value) break;
    heap[hole] = heap[child];
    hole = child;
  }
  heap[hole] = value;
}

}  // namespace

double last_block_end(std::span<const double> blocks, std::int64_t groups, int sms) {
  PIPECAST_ASSERT(sms >= 1 && groups >= 0);
  if (blocks.empty() || groups == 0) return 0;
  const auto count = static_cast<std::int64_t>(blocks.size());
  if (std::all_of(blocks.begin(), blocks.end(), [&](double b) { return b == blocks.front(); })) {
    return static_cast<double>(ceil_div(groups * count, sms)) * blocks.front();
  }
  constexpr std::int64_t kInDetail = 128;  // groups; bounds the time of a long batch
  const std::int64_t even = std::max<std::int64_t>(0, groups - kInDetail);
  const double before =
      static_cast<double>(even) / sms * std::accumulate(blocks.begin(), blocks.end(), 0.0);

  std::vector<double> free_at(static_cast<std::size_t>(sms), 0.0);
  for (std::int64_t group = even; group < groups; ++group) {
    for (const double block : blocks) delay_first(free_at, block);
  }
  return before + *std::max_element(free_at.begin(), free_at.end());
}

}  // namespace pipecast
