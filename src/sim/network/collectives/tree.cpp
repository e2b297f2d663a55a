#include <utility>

#include "sim/network/collectives/collective.hpp"

namespace pipecast {
namespace {

/// A binomial tree over members 0 .. n-1 with root 0: in round r, with d = 2^r, member i + d and
/// member i (a multiple of 2 d) exchange. Of the reduction the rounds go up, of the broadcast down.
std::vector<std::vector<std::pair<int, int>>> rounds(int members) {
  std::vector<std::vector<std::pair<int, int>>> out;
  for (int distance = 1; distance < members; distance *= 2) {
    auto& round = out.emplace_back();
    for (int parent = 0; parent + distance < members; parent += 2 * distance) {
      round.emplace_back(parent, parent + distance);
    }
  }
  return out;
}

using Ready = std::vector<std::vector<int>>;  // by member: what its next transfer waits for

void add_reduce(std::vector<Transfer>& out, int members, Bytes bytes, Ready& ready) {
  for (const auto& round : rounds(members)) {
    for (const auto& [parent, child] : round) {
      ready[static_cast<std::size_t>(parent)].push_back(static_cast<int>(out.size()));
      out.push_back({.from = child,
                     .to = parent,
                     .bytes = bytes,
                     .after = ready[static_cast<std::size_t>(child)]});
    }
  }
}

void add_broadcast(std::vector<Transfer>& out, int members, Bytes bytes, Ready& ready) {
  const auto up = rounds(members);
  for (auto round = up.rbegin(); round != up.rend(); ++round) {
    for (const auto& [parent, child] : *round) {
      const auto index = static_cast<int>(out.size());
      out.push_back({.from = parent,
                     .to = child,
                     .bytes = bytes,
                     .after = ready[static_cast<std::size_t>(parent)]});
      ready[static_cast<std::size_t>(child)] = {index};
      ready[static_cast<std::size_t>(parent)] = {index};
    }
  }
}

/// The whole buffer up a binomial tree and down again: 2 ceil(log2 n) messages one after the other
/// at most, for small buffers. Source: Thakur, Rabenseifner and Gropp 2005, section 4.
std::vector<Transfer> make_all_reduce(const CollectiveShape& shape) {
  require(shape.members > 0, "a tree of {} GPUs; expected at least one", shape.members);
  std::vector<Transfer> out;
  Ready ready(static_cast<std::size_t>(shape.members));
  add_reduce(out, shape.members, shape.bytes, ready);
  add_broadcast(out, shape.members, shape.bytes, ready);
  return out;
}

/// Recursive halving and doubling need a power of two.
void require_power_of_two(int members, std::string_view name) {
  require(members > 0 && (members & (members - 1)) == 0,
          "{}: {} GPUs are no power of two, which its halving needs", name, members);
}

/// One exchange of every member with the one whose number differs in the bit `distance`.
void add_exchange(std::vector<Transfer>& out, int members, int distance, Bytes bytes,
                  Ready& ready) {
  const auto begin = static_cast<int>(out.size());
  for (int i = 0; i < members; ++i) {
    out.push_back({.from = i,
                   .to = i ^ distance,
                   .bytes = bytes,
                   .after = ready[static_cast<std::size_t>(i)]});
  }
  for (int i = 0; i < members; ++i) {
    ready[static_cast<std::size_t>(i)] = {begin + i, begin + (i ^ distance)};
  }
}

/// Recursive halving: half of the buffer to the member half the group away, then a quarter, ...
/// log2 n steps, (n-1)/n of the buffer out of every GPU. Source: the same, section 4.2. Bytes are
/// rounded up to whole ones.
std::vector<Transfer> make_reduce_scatter(const CollectiveShape& shape) {
  require_power_of_two(shape.members, "tree-reduce-scatter");
  std::vector<Transfer> out;
  Ready ready(static_cast<std::size_t>(shape.members));
  for (int distance = shape.members / 2; distance > 0; distance /= 2) {
    const Bytes part(ceil_div(shape.bytes.count() * distance, shape.members));
    add_exchange(out, shape.members, distance, part, ready);
  }
  return out;
}

/// Recursive doubling, the same backwards.
std::vector<Transfer> make_all_gather(const CollectiveShape& shape) {
  require_power_of_two(shape.members, "tree-all-gather");
  std::vector<Transfer> out;
  Ready ready(static_cast<std::size_t>(shape.members));
  for (int distance = 1; distance < shape.members; distance *= 2) {
    const Bytes part(ceil_div(shape.bytes.count() * distance, shape.members));
    add_exchange(out, shape.members, distance, part, ready);
  }
  return out;
}

const Register<CollectiveKind> kReduceScatter{
    "tree-reduce-scatter",
    {.make = make_reduce_scatter, .description = "recursive halving; a power of two GPUs"}};
const Register<CollectiveKind> kAllGather{
    "tree-all-gather",
    {.make = make_all_gather, .description = "recursive doubling; a power of two GPUs"}};
const Register<CollectiveKind> kAllReduce{
    "tree-all-reduce",
    {.make = make_all_reduce, .description = "up a binomial tree and down again"}};

}  // namespace
}  // namespace pipecast
