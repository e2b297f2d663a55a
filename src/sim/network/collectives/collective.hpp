/// Collectives as lists of transfers between GPUs: what depends on what, before any fabric is
/// known. Each kind is a file of its own.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/registry.hpp"
#include "base/units.hpp"

namespace pipecast {

/// Bytes from one GPU to another. Members count within the collective.
struct Transfer {
  int from = 0;
  int to = 0;
  Bytes bytes{};
  std::vector<int> after{};  ///< earlier transfers of the list
};

/// How many tokens every member of an all-to-all sends where: a copy counts once per destination.
struct TokenMatrix {
  std::vector<std::vector<std::int64_t>> to_gpu;  ///< [source][member]: tokens with an expert there
  std::vector<std::vector<std::int64_t>> to_node;  ///< [source][node]: tokens with one on the node
};

/// Balanced routing: every member sends `tokens` tokens, each to `nodes_per_token` of the nodes and
/// `gpus_per_token` of the members, all as likely; fractions are rounded to whole tokens.
TokenMatrix balanced_counts(int members, int gpus_per_node, std::int64_t tokens,
                            double nodes_per_token, double gpus_per_token);

struct CollectiveShape {
  int members = 0;
  int gpus_per_node = 1;  ///< members of a node, which lie side by side; divides the members
  Bytes bytes{};          ///< of the whole buffer, but for all-to-alls: of one token's copy
  TokenMatrix tokens{};   ///< of all-to-alls
  /// Parts in which an all-to-all hands tokens on between NIC and NVLink. 1 waits for everything
  /// before it goes on, many overlap the two, 0 lets both run side by side from the start.
  int chunks = 0;

  [[nodiscard]] int nodes() const { return members / gpus_per_node; }
};

/// What a collective's file registers.
struct CollectiveKind {
  /// @throws Error for a shape that it cannot have
  std::vector<Transfer> (*make)(const CollectiveShape&) = nullptr;
  bool counts_tokens = false;  ///< its shape has tokens, and bytes are those of a copy
  std::string_view description;
};

/// Part `part` of `parts` of some bytes; the first ones take what is left over.
Bytes part_of(Bytes bytes, int part, int parts);

}  // namespace pipecast
