#include <map>
#include <utility>

#include "sim/network/collectives/collective.hpp"

namespace pipecast {
namespace {

using Counts = std::vector<std::vector<std::int64_t>>;

std::int64_t at(const Counts& counts, int row, int column) {
  return counts[static_cast<std::size_t>(row)][static_cast<std::size_t>(column)];
}

void check_counts(const Counts& counts, int rows, int columns, std::string_view what) {
  bool fits = counts.size() == static_cast<std::size_t>(rows);
  for (const auto& row : counts) {
    fits = fits && row.size() == static_cast<std::size_t>(columns);
    for (const std::int64_t count : row) fits = fits && count >= 0;
  }
  require(fits, "all-to-all: tokens {} are no {} times {} counts from 0 on", what, rows, columns);
}

/// A node and a GPU of it hold a token only if it was sent there.
void check(const CollectiveShape& shape) {
  require(shape.members > 0 && shape.gpus_per_node > 0 && shape.members % shape.gpus_per_node == 0,
          "all-to-all: {} GPUs are no whole number of nodes of {}", shape.members,
          shape.gpus_per_node);
  require(shape.chunks >= 0, "all-to-all: {} chunks; expected 0 or more", shape.chunks);
  check_counts(shape.tokens.to_gpu, shape.members, shape.members, "to GPUs");
  check_counts(shape.tokens.to_node, shape.members, shape.nodes(), "to nodes");
}

/// The two levels of an all-to-all, for one part of its tokens.
struct Levels {
  std::vector<Transfer> nic;     ///< between GPUs of one index
  std::vector<Transfer> nvlink;  ///< between the forwarding GPUs and the others of their node
};

/// A token crosses once to every node with one of its experts, to the GPU with its source's index
/// there, and goes on to its experts' GPUs. Copies that stay on a GPU cross no link. Source:
/// DeepSeek-V3 Technical Report (arXiv 2412.19437), section 3.2.2.
Levels dispatch_levels(const CollectiveShape& shape, int part) {
  const int parts = std::max(1, shape.chunks);
  const auto bytes = [&](std::int64_t tokens) {
    return part_of(shape.bytes * tokens, part, parts);
  };
  Levels out;
  const int n = shape.gpus_per_node;
  for (int source = 0; source < shape.members; ++source) {
    for (int node = 0; node < shape.nodes(); ++node) {
      const std::int64_t tokens = at(shape.tokens.to_node, source, node);
      if (node == source / n || tokens == 0) continue;
      out.nic.push_back({.from = source, .to = node * n + source % n, .bytes = bytes(tokens)});
    }
  }
  for (int forwarder = 0; forwarder < shape.members; ++forwarder) {
    const int first = forwarder / n * n;
    for (int to = first; to < first + n; ++to) {
      std::int64_t tokens = 0;
      for (int source = forwarder % n; source < shape.members; source += n) {
        tokens += at(shape.tokens.to_gpu, source, to);
      }
      if (to == forwarder || tokens == 0) continue;
      out.nvlink.push_back({.from = forwarder, .to = to, .bytes = bytes(tokens)});
    }
  }
  return out;
}

/// A combine is a dispatch run backwards.
Levels combine_levels(const CollectiveShape& shape, int part) {
  Levels out = dispatch_levels(shape, part);
  for (std::vector<Transfer>* level : {&out.nic, &out.nvlink}) {
    for (Transfer& transfer : *level) std::swap(transfer.from, transfer.to);
  }
  return out;
}

/// Plays the parts of two levels: the second level's transfers at a GPU wait for all of the first
/// level's of the same part there, and every transfer for its own part before.
std::vector<Transfer> play(const CollectiveShape& shape,
                           Levels (*levels)(const CollectiveShape&, int),
                           std::vector<Transfer> Levels::*first,
                           std::vector<Transfer> Levels::*second) {
  check(shape);
  std::vector<Transfer> out;
  const auto push = [&](Transfer transfer, std::map<std::pair<int, int>, int>& before) {
    const std::pair<int, int> ends{transfer.from, transfer.to};
    if (const auto it = before.find(ends); it != before.end()) {
      transfer.after.push_back(it->second);
    }
    before[ends] = static_cast<int>(out.size());
    out.push_back(std::move(transfer));
  };
  std::map<std::pair<int, int>, int> first_before;
  std::map<std::pair<int, int>, int> second_before;
  for (int part = 0; part < std::max(1, shape.chunks); ++part) {
    Levels now = levels(shape, part);
    std::map<int, std::vector<int>> arrivals;
    for (Transfer& transfer : now.*first) {
      arrivals[transfer.to].push_back(static_cast<int>(out.size()));
      push(std::move(transfer), first_before);
    }
    for (Transfer& transfer : now.*second) {
      if (shape.chunks > 0) transfer.after = arrivals[transfer.from];
      push(std::move(transfer), second_before);
    }
  }
  return out;
}

std::vector<Transfer> make_dispatch(const CollectiveShape& shape) {
  return play(shape, dispatch_levels, &Levels::nic, &Levels::nvlink);
}

std::vector<Transfer> make_combine(const CollectiveShape& shape) {
  return play(shape, combine_levels, &Levels::nvlink, &Levels::nic);
}

const Register<CollectiveKind> kDispatch{
    "dispatch",
    {.make = make_dispatch,
     .counts_tokens = true,
     .description = "all-to-all of tokens, once per node over the NIC, then on over NVLink"}};
const Register<CollectiveKind> kCombine{
    "combine",
    {.make = make_combine,
     .counts_tokens = true,
     .description = "all-to-all of results: NVLink to the forwarding GPU, then the NIC"}};

}  // namespace
}  // namespace pipecast
