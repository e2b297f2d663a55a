/// Dispatch of token rows to the ranks that hold their experts, and combine of what comes back.
#pragma once

#include <vector>

#include "kernels/reference/matrix.hpp"

namespace pipecast::kernels::reference {

/// Row of a rank's own tokens.
struct SentRow {
  Index rank{};
  Index token{};
};

/// Expert e lives on rank e / experts_per_rank. A rank receives a token once, however many of the
/// token's experts it holds; rows arrive in the order of the sending rank, then of the token.
struct ExchangeRouting {
  Index experts_per_rank{};
  Indices tokens{};                              // of each rank
  std::vector<std::vector<SentRow>> received{};  // by each rank
};

/// @param experts  of each rank's tokens: tokens x slots, numbered over all ranks
ExchangeRouting exchange_routing(const std::vector<IndexMatrix>& experts, Index experts_per_rank);

/// Rows that each rank receives. Also the backward of combine with unit weights.
/// @param tokens  of each rank: its tokens x width
std::vector<Matrix> dispatch_rows(const ExchangeRouting& routing,
                                  const std::vector<Matrix>& tokens);

/// Experts of each received row as each rank numbers its own; kElsewhere for those of other ranks.
std::vector<IndexMatrix> dispatch_experts(const ExchangeRouting& routing,
                                          const std::vector<IndexMatrix>& experts);

/// For each rank's tokens, the sum over the ranks that received them of weight * row. With unit
/// weights also the backward of dispatch.
/// @param rows     of each receiving rank: received rows x width
/// @param weights  of each receiving rank's rows
std::vector<Matrix> combine_rows(const ExchangeRouting& routing, const std::vector<Matrix>& rows,
                                 const std::vector<Vector>& weights);

/// The sum without weights, as rows leave unpermute that are weighted already.
std::vector<Matrix> combine_rows(const ExchangeRouting& routing, const std::vector<Matrix>& rows);

struct CombineGradients {
  std::vector<Matrix> rows{};     // of each receiving rank
  std::vector<Vector> weights{};  // the same
};

/// @param output_gradient  of each rank: its tokens x width
CombineGradients combine_backward(const ExchangeRouting& routing, const std::vector<Matrix>& rows,
                                  const std::vector<Vector>& weights,
                                  const std::vector<Matrix>& output_gradient);

}  // namespace pipecast::kernels::reference
