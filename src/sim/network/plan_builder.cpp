#include "sim/network/plan_builder.hpp"

#include <set>

namespace pipecast {

namespace {

void check_gpus(const PlacedCollective& collective, std::size_t gpus) {
  std::set<int> seen;
  for (const int gpu : collective.gpus) {
    require(gpu >= 0 && static_cast<std::size_t>(gpu) < gpus,
            "{}: there is no GPU {}; the cluster has {}, counted from 0", collective.name, gpu,
            gpus);
    require(seen.insert(gpu).second, "{}: GPU {} stands twice", collective.name, gpu);
  }
}

}  // namespace

LinkIndex PlanBuilder::link(LinkIndex of_fabric) {
  const auto [it, fresh] =
      links_.try_emplace(of_fabric, static_cast<LinkIndex>(plan_.links.size()));
  if (fresh) plan_.links.push_back(fabric_.links[of_fabric]);
  return it->second;
}

void PlanBuilder::add(const PlacedCollective& collective) {
  check_gpus(collective, fabric_.gpus.size());
  const auto [mine, fresh] = last_flows_.try_emplace(collective.name);
  require(fresh, "{}: two collectives have this name", collective.name);
  std::vector<FlowIndex> before;
  for (const std::string& name : collective.after) {
    const auto it = last_flows_.find(name);
    require(it != last_flows_.end() && name != collective.name,
            "{}: waits for '{}', which is no collective before it", collective.name, name);
    before.insert(before.end(), it->second.begin(), it->second.end());
  }
  const auto group = static_cast<GroupIndex>(plan_.groups.size());
  plan_.groups.push_back({.id = collective.name});
  const std::size_t first = plan_.flows.size();
  std::vector<bool> waited_for(collective.transfers.size(), false);
  for (std::size_t i = 0; i < collective.transfers.size(); ++i) {
    const Transfer& transfer = collective.transfers[i];
    const int from = collective.gpus.at(static_cast<std::size_t>(transfer.from));
    const int to = collective.gpus.at(static_cast<std::size_t>(transfer.to));
    Flow flow;
    flow.id = fmt::format("{}.{}", collective.name, i);
    flow.bytes = transfer.bytes;
    flow.start_s = collective.start_s;
    flow.group = group;
    Duration latency;
    for (const LinkIndex used : router_.route(from, to, transfer.bytes)) {
      flow.links.push_back(link(used));
      latency += fabric_.latencies[used];
    }
    flow.latency_s = to_seconds(latency);
    for (const int earlier : transfer.after) {
      flow.after.push_back(static_cast<FlowIndex>(first + static_cast<std::size_t>(earlier)));
      waited_for[static_cast<std::size_t>(earlier)] = true;
    }
    if (transfer.after.empty()) flow.after = before;
    plan_.flows.push_back(std::move(flow));
  }
  for (std::size_t i = 0; i < waited_for.size(); ++i) {
    if (!waited_for[i]) mine->second.push_back(static_cast<FlowIndex>(first + i));
  }
  // One without flows hands on what it waits for itself.
  if (collective.transfers.empty()) mine->second = before;
}

}  // namespace pipecast
