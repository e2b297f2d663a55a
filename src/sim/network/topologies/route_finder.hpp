/// Ways of flows through a fabric.
#pragma once

#include <cstdint>
#include <map>
#include <vector>

#include "sim/network/topologies/fabric_graph.hpp"

namespace pipecast {

/// Finds the way with the fewest hops. Traffic passes through GPUs of the two nodes at its ends
/// alone: a GPU on another plane than the destination first hands over to a neighbour (PXN). A GPU
/// with several ways out takes NVLink before its NIC; NVSwitches and switches choose as the
/// cluster's routing says.
class RouteFinder {
 public:
  /// @param fabric  must live as long as the router
  RouteFinder(const FabricGraph& fabric, FabricRouting routing, std::int64_t seed);

  /// @param load  what the flow adds to its links' load, for adaptive routing: later flows see it
  /// @throws ImpossiblePlan naming both ends if there is no way
  std::vector<LinkIndex> route(int from, int to, Bytes load);

 private:
  using Hops = std::vector<std::int32_t>;  // from every vertex to one destination; -1: no way

  const Hops& hops_to(int to);
  std::vector<Edge> next_hops(Vertex at, const Hops& hops) const;
  Edge choose(Vertex at, const std::vector<Edge>& ways, int from, int to, std::size_t& stride,
              const Hops& hops);
  Edge least_loaded(const std::vector<Edge>& ways, const Hops& hops);

  /// Seconds that the most loaded link ahead takes for what it has, then the sum of all.
  struct Load {
    double worst = 0;
    double sum = 0;
    auto operator<=>(const Load&) const = default;
  };
  Load load_ahead(const Edge& edge, const Hops& hops, std::map<Vertex, Load>& known) const;

  const FabricGraph& fabric_;
  FabricRouting routing_;
  std::uint64_t seed_;
  std::map<int, Hops> hops_;
  std::vector<std::size_t>
      ports_;                  ///< of every GPU: its number among those of its plane, leaf by leaf
  std::vector<double> bytes_;  ///< of every link, so far
};

}  // namespace pipecast
