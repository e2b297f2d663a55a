#pragma once

/// Several ranks of an exchange: one GPU each, or all of them in one emulation. Plain C++.
#include <cstddef>
#include <functional>

namespace pipecast::kernels {

/// How many ranks can run here: GPUs that reach each other's memory, or what emulation allows.
int most_ranks();

/// Calls `launch_rank(rank)` for every rank, with the rank's GPU current, and waits for the
/// kernels. Kernels of different ranks run at the same time and may wait for each other; so in
/// emulation all that is launched runs at once, and a rank launches exactly one kernel.
/// @throws DeviceError if one fails, or if there are fewer GPUs
void run_ranks_together(int ranks, const std::function<void(int)>& launch_rank);

/// The same for kernels that wait for no other rank: a rank may launch several, which run in order.
void run_ranks_apart(int ranks, const std::function<void(int)>& launch_rank);

/// Memory of a rank's own GPU, filled with zeros, which kernels of all ranks reach after
/// run_ranks_together. Unlike a Buffer's it never moves.
class RankMemory {
 public:
  RankMemory(int rank, std::size_t bytes);
  ~RankMemory();
  RankMemory(RankMemory&& other) noexcept;
  RankMemory& operator=(RankMemory&&) = delete;

  [[nodiscard]] void* data() const { return data_; }
  void write(const void* from, std::size_t bytes) const;
  void read(void* to, std::size_t offset, std::size_t bytes) const;

 private:
  int rank_;
  void* data_ = nullptr;
};

}  // namespace pipecast::kernels
