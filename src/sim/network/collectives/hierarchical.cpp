#include "sim/network/collectives/ring.hpp"

namespace pipecast {
namespace {

using Ready = std::vector<std::vector<int>>;  // by member: what its next transfer waits for

void check(const CollectiveShape& shape) {
  require(shape.members > 0 && shape.gpus_per_node > 0 && shape.members % shape.gpus_per_node == 0,
          "a hierarchical collective of {} GPUs: no whole number of nodes of {}", shape.members,
          shape.gpus_per_node);
}

/// One ring in every node over the whole buffer.
void ring_in_nodes(std::vector<Transfer>& out, const CollectiveShape& shape, int first,
                   Ready& ready) {
  const int n = shape.gpus_per_node;
  for (int node = 0; node < shape.nodes(); ++node) {
    std::vector<int> members;
    for (int i = 0; i < n; ++i) members.push_back(node * n + i);
    const Ready before(ready.begin() + node * n, ready.begin() + (node + 1) * n);
    const Ready done = add_ring(out, members, shape.bytes, first, n - 1, before);
    for (int i = 0; i < n; ++i) {
      ready[static_cast<std::size_t>(node * n + i)] = done[static_cast<std::size_t>(i)];
    }
  }
}

/// One ring for every index over the nodes; index i holds part i + 1 of the buffer, what the rings
/// in nodes leave it with.
void ring_across(std::vector<Transfer>& out, const CollectiveShape& shape, int first,
                 Ready& ready) {
  const int n = shape.gpus_per_node;
  for (int index = 0; index < n; ++index) {
    std::vector<int> members;
    Ready before;
    for (int node = 0; node < shape.nodes(); ++node) {
      members.push_back(node * n + index);
      before.push_back(ready[static_cast<std::size_t>(members.back())]);
    }
    const Bytes part = part_of(shape.bytes, (index + 1) % n, n);
    const Ready done = add_ring(out, members, part, first, shape.nodes() - 1, before);
    for (std::size_t node = 0; node < members.size(); ++node) {
      ready[static_cast<std::size_t>(members[node])] = done[node];
    }
  }
}

/// NVLink takes (g-1)/g of the buffer out of every GPU, the NIC (N-1)/N of 1/g of it (g GPUs on
/// each of N nodes). Source: NCCL's NVLink-then-network rings.
std::vector<Transfer> make_reduce_scatter(const CollectiveShape& shape) {
  check(shape);
  std::vector<Transfer> out;
  Ready ready(static_cast<std::size_t>(shape.members));
  ring_in_nodes(out, shape, 0, ready);
  ring_across(out, shape, 0, ready);
  return out;
}

std::vector<Transfer> make_all_gather(const CollectiveShape& shape) {
  check(shape);
  std::vector<Transfer> out;
  Ready ready(static_cast<std::size_t>(shape.members));
  ring_across(out, shape, 1, ready);
  ring_in_nodes(out, shape, 1, ready);
  return out;
}

std::vector<Transfer> make_all_reduce(const CollectiveShape& shape) {
  check(shape);
  std::vector<Transfer> out;
  Ready ready(static_cast<std::size_t>(shape.members));
  ring_in_nodes(out, shape, 0, ready);
  ring_across(out, shape, 0, ready);
  ring_across(out, shape, 1, ready);
  ring_in_nodes(out, shape, 1, ready);
  return out;
}

const Register<CollectiveKind> kReduceScatter{
    "hierarchical-reduce-scatter",
    {.make = make_reduce_scatter, .description = "rings over NVLink, then over NICs"}};
const Register<CollectiveKind> kAllGather{
    "hierarchical-all-gather",
    {.make = make_all_gather, .description = "rings over NICs, then over NVLink"}};
const Register<CollectiveKind> kAllReduce{
    "hierarchical-all-reduce",
    {.make = make_all_reduce, .description = "reduced over NVLink and NICs, gathered back"}};

}  // namespace
}  // namespace pipecast
