/// Collectives on a fabric to one transfer plan.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "sim/network/collectives/collective.hpp"
#include "sim/network/topologies/route_finder.hpp"
#include "sim/network/transfer_plan.hpp"

namespace pipecast {

/// One collective among others.
struct PlacedCollective {
  std::string name;  ///< of the group and, with a number, of its flows
  std::vector<Transfer> transfers{};
  std::vector<int> gpus{};  ///< of its members: numbers of the cluster
  double start_s = 0;
  std::vector<std::string> after{};  ///< collectives added before, all of whose flows it waits for
};

/// Routes transfers in the order in which they are added, so adaptive routing sees what came
/// before. The plan has the links that are used.
class PlanBuilder {
 public:
  /// @param fabric  must live as long as the builder
  PlanBuilder(const FabricGraph& fabric, FabricRouting routing, std::int64_t seed)
      : fabric_(fabric), router_(fabric, routing, seed) {}

  /// @throws Error for a name that is taken or unknown or a GPU that stands twice or is none,
  ///         ImpossiblePlan where failures leave no way
  void add(const PlacedCollective& collective);

  [[nodiscard]] const TransferPlan& plan() const { return plan_; }

 private:
  LinkIndex link(LinkIndex of_fabric);

  const FabricGraph& fabric_;
  RouteFinder router_;
  TransferPlan plan_;
  std::map<LinkIndex, LinkIndex> links_;
  std::map<std::string, std::vector<FlowIndex>> last_flows_;
};

}  // namespace pipecast
