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

}  // namespace pipecast::kernels
