#include "sim/network/collectives/collective.hpp"

#include <cmath>

namespace pipecast {

TokenMatrix balanced_counts(int members, int gpus_per_node, std::int64_t tokens,
                            double nodes_per_token, double gpus_per_token) {
  require(members > 0 && gpus_per_node > 0 && members % gpus_per_node == 0,
          "an all-to-all of {} GPUs, {} on a node: the one has to divide the other", members,
          gpus_per_node);
  const int nodes = members / gpus_per_node;
  require(nodes_per_token > 0 && nodes_per_token <= nodes,
          "tokens go to {} nodes each; expected more than 0 and at most the {} of the group",
          nodes_per_token, nodes);
  require(gpus_per_token >= nodes_per_token && gpus_per_token <= members,
          "tokens go to {} GPUs each; expected at least their {} nodes and at most the {} of the "
          "group",
          gpus_per_token, nodes_per_token, members);
  const auto share = [&](double copies, int places) {
    return std::llround(static_cast<double>(tokens) * copies / places);
  };
  const auto sources = static_cast<std::size_t>(members);
  return {.to_gpu = {sources, std::vector<std::int64_t>(sources, share(gpus_per_token, members))},
          .to_node = {sources, std::vector<std::int64_t>(static_cast<std::size_t>(nodes),
                                                         share(nodes_per_token, nodes))}};
}

Bytes part_of(Bytes bytes, int part, int parts) {
  const std::int64_t left = bytes.count() % parts;
  return Bytes(bytes.count() / parts + (part < left ? 1 : 0));
}

}  // namespace pipecast
