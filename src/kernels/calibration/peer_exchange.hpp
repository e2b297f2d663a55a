#pragma once

/// Dispatch and combine between the GPUs of one machine, through windows in each other's memory:
/// made ready, checked, and launched once by once, for a timer.
#include <cstdint>
#include <vector>

#include "kernels/exchange/exchange.hpp"
#include "kernels/memory/ranks.hpp"

namespace pipecast::kernels {

struct PeerExchangeShape {
  int ranks;
  int tokens;   // of each rank
  int hidden;   // a multiple of 128
  int experts;  // of all ranks, divisible by them
  int top_k;    // distinct experts of every token, drawn evenly
  int sms;      // that each kernel takes; even
};

class PeerExchange {
 public:
  /// Allocates everything, and sends one dispatch and one combine. @throws DeviceError
  explicit PeerExchange(const PeerExchangeShape& shape);

  /// Share of the values looked at that did not arrive, or were summed wrongly, of both kernels.
  [[nodiscard]] double wrong_share() const;

  /// What must come before each of the two that follow.
  void prepare();
  void launch_dispatch(int rank);
  void launch_combine(int rank);

 private:
  /// Memory of a rank.
  struct Rank {
    RankMemory chosen;
    RankMemory weights;
    RankMemory rows;
    RankMemory scales;
    RankMemory ranks_of_token;
    RankMemory channel_counts;
    RankMemory expert_counts;
    RankMemory first_rows;
    RankMemory local_counts;
    RankMemory received_rows;
    RankMemory received_scales;
    RankMemory received_experts;
    RankMemory received_weights;
    RankMemory received_tokens;
    RankMemory sent_rows;
    RankMemory expert_rows;  // BF16, what combine sends back
    RankMemory output;
  };
  [[nodiscard]] ExchangeRank self(int rank) const;
  void draw_routing();
  void allocate();
  [[nodiscard]] double wrong_rows(int rank) const;
  [[nodiscard]] double wrong_sums(int rank) const;

  /// A row that a rank received: of which rank and token.
  struct Origin {
    int rank;
    int token;
  };

  PeerExchangeShape shape_;
  ExchangeExtents extents_{};
  std::vector<std::vector<int>> chosen_;       // of each rank: tokens x top_k
  std::vector<std::vector<Origin>> received_;  // of each rank, in order of arrival
  std::vector<RankMemory> windows_;
  std::vector<Rank> ranks_;
};

}  // namespace pipecast::kernels
