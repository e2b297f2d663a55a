#include "sim/network/collectives/ring.hpp"

namespace pipecast {

std::vector<std::vector<int>> add_ring(std::vector<Transfer>& out, const std::vector<int>& members,
                                       Bytes bytes, int first, int steps,
                                       const std::vector<std::vector<int>>& after) {
  const auto n = static_cast<int>(members.size());
  std::vector<std::vector<int>> ready = after;
  ready.resize(members.size());
  for (int step = 0; step < steps; ++step) {
    const auto begin = static_cast<int>(out.size());
    for (int i = 0; i < n; ++i) {
      const int part = ((first + i - step) % n + n) % n;
      out.push_back({.from = members[static_cast<std::size_t>(i)],
                     .to = members[static_cast<std::size_t>((i + 1) % n)],
                     .bytes = part_of(bytes, part, n),
                     .after = ready[static_cast<std::size_t>(i)]});
    }
    for (int i = 0; i < n; ++i) {
      ready[static_cast<std::size_t>(i)] = {begin + i, begin + (i + n - 1) % n};
    }
  }
  return ready;
}

namespace {

std::vector<int> everyone(const CollectiveShape& shape) {
  require(shape.members > 0, "a ring of {} GPUs; expected at least one", shape.members);
  std::vector<int> out;
  for (int i = 0; i < shape.members; ++i) out.push_back(i);
  return out;
}

/// Member i ends up with the sum of part i + 1. Volume: (n-1)/n of the buffer out of every GPU.
/// Source: Patarasuk and Yuan 2009.
std::vector<Transfer> make_reduce_scatter(const CollectiveShape& shape) {
  std::vector<Transfer> out;
  add_ring(out, everyone(shape), shape.bytes, 0, shape.members - 1, {});
  return out;
}

/// Member i begins with part i + 1, what a reduce-scatter leaves it with.
std::vector<Transfer> make_all_gather(const CollectiveShape& shape) {
  std::vector<Transfer> out;
  add_ring(out, everyone(shape), shape.bytes, 1, shape.members - 1, {});
  return out;
}

std::vector<Transfer> make_all_reduce(const CollectiveShape& shape) {
  std::vector<Transfer> out;
  const auto reduced = add_ring(out, everyone(shape), shape.bytes, 0, shape.members - 1, {});
  add_ring(out, everyone(shape), shape.bytes, 1, shape.members - 1, reduced);
  return out;
}

const Register<CollectiveKind> kReduceScatter{
    "ring-reduce-scatter", {.make = make_reduce_scatter, .description = "n-1 steps round a ring"}};
const Register<CollectiveKind> kAllGather{
    "ring-all-gather", {.make = make_all_gather, .description = "n-1 steps round a ring"}};
const Register<CollectiveKind> kAllReduce{
    "ring-all-reduce",
    {.make = make_all_reduce, .description = "a ring reduce-scatter, then a ring all-gather"}};

}  // namespace
}  // namespace pipecast
