#include <cstdlib>
#include <cstring>
#include <utility>

#include "kernels/memory/ranks.hpp"
#include "kernels/simt/simt.hpp"

namespace pipecast::kernels {

int most_ranks() { return 8; }

void run_ranks_together(int ranks, const std::function<void(int)>& launch_rank) {
  emulation::Together together;
  for (int rank = 0; rank < ranks; ++rank) launch_rank(rank);
  together.run();
}

void run_ranks_apart(int ranks, const std::function<void(int)>& launch_rank) {
  for (int rank = 0; rank < ranks; ++rank) launch_rank(rank);
}

RankMemory::RankMemory(int rank, std::size_t bytes) : rank_(rank) {
  constexpr std::size_t kAlignment = 256;  // as cudaMalloc's
  const std::size_t rounded = (bytes + kAlignment - 1) / kAlignment * kAlignment;
  data_ = std::aligned_alloc(kAlignment, rounded);
  if (data_ == nullptr && rounded > 0) throw DeviceError("no memory for an emulated rank");
  std::memset(data_, 0, rounded);
}
RankMemory::~RankMemory() { std::free(data_); }
RankMemory::RankMemory(RankMemory&& other) noexcept
    : rank_(other.rank_), data_(std::exchange(other.data_, nullptr)) {}
void RankMemory::write(const void* from, std::size_t bytes) const {
  std::memcpy(data_, from, bytes);
}
void RankMemory::read(void* to, std::size_t offset, std::size_t bytes) const {
  std::memcpy(to, static_cast<const char*>(data_) + offset, bytes);
}

}  // namespace pipecast::kernels
