/// Dispatch and combine from their extents: how many copies of tokens a GPU sends and receives.
#pragma once

#include <cstdint>
#include <string_view>

#include "model/operations/operation.hpp"

namespace pipecast {

/// Owners among which a token's experts are expected to lie if it draws `draws` of `candidates`
/// experts evenly, without putting back, and every owner holds `per_owner` of them: each owner is
/// missed with the probability that all draws fall on the others'.
double expected_owners(double candidates, double per_owner, std::int64_t draws);

/// An expert-parallel group and what every GPU of it sends.
struct ExchangeGroup {
  std::int64_t tokens = 0;  ///< of each GPU
  std::int64_t hidden = 0;
  std::int64_t top_k = 0;
  std::int64_t experts = 0;  ///< of the whole group
  std::int64_t nodes = 1;
  std::int64_t gpus_per_node = 0;
  std::int64_t node_limit = 0;  ///< nodes that a token may use; 0: all
};

/// The exchange of a group whose tokens draw their experts evenly from the nodes they may use.
/// @throws Error if an extent makes no sense
ExchangeShape even_exchange(Exchange kind, const ExchangeGroup& group, Precision precision);

/// The launch of a dispatch or combine, without label. Rows and columns are the copies received.
Operation exchange_operation(const ExchangeShape& shape, std::int64_t hidden, Precision precision);

}  // namespace pipecast
