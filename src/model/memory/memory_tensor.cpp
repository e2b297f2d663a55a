#include "model/memory/memory_tensor.hpp"

namespace pipecast {

Bytes allocated_bytes(Bytes requested) {
  constexpr std::int64_t kBlock = 512;
  constexpr std::int64_t kLarge = 10 << 20;
  constexpr std::int64_t kSegment = 2 << 20;
  const std::int64_t unit = requested.count() < kLarge ? kBlock : kSegment;
  return Bytes(ceil_div(requested.count(), unit) * unit);
}

}  // namespace pipecast
