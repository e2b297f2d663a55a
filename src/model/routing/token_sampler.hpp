/// Loads of an expert-parallel group, token by token: the reference of the fast sampler.
#pragma once

#include <cstdint>
#include <vector>

#include "base/random.hpp"
#include "model/routing/group_load.hpp"
#include "model/specs/model.hpp"

namespace pipecast {

/// Counts of a micro-batch.
struct TokenCounts {
  std::vector<std::int64_t> experts;   ///< tokens that use the expert
  std::vector<std::int64_t> rows;      ///< [GPU] as GroupLoad
  std::vector<std::int64_t> received;  ///< [GPU] as GroupLoad
  std::vector<std::int64_t> node_copies;
  /// [source GPU][destination node] distinct tokens: what a node-limited dispatch sends over the
  /// network, where the node is another one.
  std::vector<std::vector<std::int64_t>> copies;
  /// [source GPU][destination GPU] distinct tokens.
  std::vector<std::vector<std::int64_t>> sent;
};

/// Passes tokens through the gate. The score of an expert of popularity w is u^(1/w), u uniform
/// (keys of weighted sampling, Efraimidis and Spirakis 2006): with w = 1 a uniform one, and near
/// the top experts come up at rates in proportion to their popularity.
/// @param weights  [expert] popularity
/// @param bias     [expert] added for the selection; empty: none
/// Not modelled: tokens of one sequence that resemble each other beyond their common popularity.
TokenCounts sample_tokens(const ModelSpec& model, const RoutingGroup& group,
                          const std::vector<double>& weights, const std::vector<double>& bias,
                          Random& random);

}  // namespace pipecast
