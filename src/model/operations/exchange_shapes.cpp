#include "model/operations/exchange_shapes.hpp"

#include <algorithm>
#include <cmath>

#include "base/error.hpp"

namespace pipecast {

double expected_owners(double candidates, double per_owner, std::int64_t draws) {
  double missed = 1;
  for (std::int64_t draw = 0; draw < draws; ++draw) {
    const double left = candidates - static_cast<double>(draw);
    missed *= std::max(0.0, left - per_owner) / left;
  }
  return candidates / per_owner * (1 - missed);
}

ExchangeShape even_exchange(Exchange kind, const ExchangeGroup& group, Precision precision) {
  const std::int64_t gpus = group.nodes * group.gpus_per_node;
  require(group.tokens >= 0 && group.hidden > 0 && group.top_k > 0 && group.nodes > 0 &&
              group.gpus_per_node > 0 && group.node_limit >= 0,
          "an exchange needs tokens, hidden, top_k, nodes and gpus_per_node: tokens={} hidden={} "
          "top_k={} nodes={} gpus_per_node={} node_limit={}",
          group.tokens, group.hidden, group.top_k, group.nodes, group.gpus_per_node,
          group.node_limit);
  require(group.experts > 0 && group.experts % gpus == 0,
          "{} experts cannot be split evenly over {} GPUs", group.experts, gpus);
  const std::int64_t usable =
      group.node_limit == 0 ? group.nodes : std::min(group.node_limit, group.nodes);
  const double per_node = static_cast<double>(group.experts) / static_cast<double>(group.nodes);
  const double candidates = per_node * static_cast<double>(usable);
  require(static_cast<double>(group.top_k) <= candidates,
          "a token uses {} experts, but its {} of {} nodes have only {}", group.top_k, usable,
          group.nodes, candidates);
  const auto tokens = static_cast<double>(group.tokens);
  const double per_gpu = per_node / static_cast<double>(group.gpus_per_node);
  const bool crosses_nodes = group.nodes > 1;
  return {.kind = kind,
          .tokens = tokens,
          .gpu_copies = tokens * expected_owners(candidates, per_gpu, group.top_k),
          .node_copies =
              crosses_nodes ? tokens * expected_owners(candidates, per_node, group.top_k) : 0,
          .copy = stored_bytes(precision, 1, group.hidden)};
}

Operation exchange_operation(const ExchangeShape& shape, std::int64_t hidden, Precision precision) {
  const std::int64_t received = std::llround(shape.gpu_copies);
  const Bytes payload = stored_bytes(precision, received, hidden);
  return {.op = shape.kind == Exchange::kDispatch ? "ep_dispatch" : "ep_combine",
          .precision = precision,
          .m = received,
          .n = hidden,
          .exchange = shape,
          .flops = {},
          .read = payload,
          .written = payload,
          .stream = Stream::kCommunication};
}

}  // namespace pipecast
