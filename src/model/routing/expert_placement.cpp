#include "model/routing/expert_placement.hpp"

#include <algorithm>
#include <numeric>

#include "base/error.hpp"

namespace pipecast {

namespace {

/// Indices by falling load; equals keep their order.
std::vector<std::size_t> heaviest_first(const std::vector<double>& loads) {
  std::vector<std::size_t> order(loads.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&loads](std::size_t a, std::size_t b) { return loads[a] > loads[b]; });
  return order;
}

/// Groups in the order in which nodes hold them, `room` on each.
std::vector<std::size_t> order_groups(const std::vector<double>& loads, std::size_t nodes) {
  const std::size_t room = loads.size() / nodes;
  std::vector<std::vector<std::size_t>> held(nodes);
  std::vector<double> sums(nodes, 0);
  for (const std::size_t group : heaviest_first(loads)) {
    std::size_t best = nodes;
    for (std::size_t node = 0; node < nodes; ++node) {
      if (held[node].size() < room && (best == nodes || sums[node] < sums[best])) best = node;
    }
    held[best].push_back(group);
    sums[best] += loads[group];
  }
  std::vector<std::size_t> out;
  for (const std::vector<std::size_t>& groups : held)
    out.insert(out.end(), groups.begin(), groups.end());
  return out;
}

/// How often each expert of a group lies there.
std::vector<int> count_copies(const std::vector<double>& loads, std::size_t further) {
  std::vector<int> copies(loads.size(), 1);
  for (std::size_t i = 0; i < further; ++i) {
    std::size_t busiest = 0;
    for (std::size_t e = 1; e < loads.size(); ++e) {
      if (loads[e] * copies[busiest] > loads[busiest] * copies[e]) busiest = e;
    }
    ++copies[busiest];
  }
  return copies;
}

using Gpu = std::vector<ExpertPlacement::Copy>;

bool holds(const Gpu& gpu, std::size_t expert) {
  return std::any_of(gpu.begin(), gpu.end(),
                     [expert](const ExpertPlacement::Copy& c) { return c.expert == expert; });
}

/// Lays the copies of a group's experts, the first of which is `first`, on its GPUs.
void pack(const std::vector<double>& loads, const std::vector<int>& copies, std::size_t first,
          std::size_t slots, Gpu* gpus, std::size_t count) {
  std::vector<double> per_copy(loads.size());
  for (std::size_t e = 0; e < loads.size(); ++e) per_copy[e] = loads[e] / copies[e];
  std::vector<double> sums(count, 0);
  for (const std::size_t e : heaviest_first(per_copy)) {
    for (int copy = 0; copy < copies[e]; ++copy) {
      std::size_t best = count;
      bool best_holds = false;
      for (std::size_t gpu = 0; gpu < count; ++gpu) {
        if (gpus[gpu].size() == slots) continue;
        const bool again = holds(gpus[gpu], first + e);
        const bool better = best == count || (best_holds && !again) ||
                            (best_holds == again && sums[gpu] < sums[best]);
        if (!better) continue;
        best = gpu;
        best_holds = again;
      }
      gpus[best].push_back({.expert = first + e, .share = 1.0 / copies[e]});
      sums[best] += per_copy[e];
    }
  }
}

}  // namespace

ExpertPlacement place_experts(const std::vector<double>& loads, int groups, int gpus, int nodes,
                              int redundant) {
  require(groups > 0 && gpus > 0 && nodes > 0 && redundant >= 0,
          "expert placement: groups={} gpus={} nodes={} redundant={}", groups, gpus, nodes,
          redundant);
  require(gpus % groups == 0,
          "expert placement: {} GPUs for {} groups; expected as many GPUs for each", gpus, groups);
  require(redundant % gpus == 0,
          "expert placement: {} redundant experts do not divide over {} GPUs", redundant, gpus);
  const auto group_count = static_cast<std::size_t>(groups);
  const std::size_t size = loads.size() / group_count;
  const std::size_t gpus_of_group = static_cast<std::size_t>(gpus) / group_count;
  const std::size_t further = static_cast<std::size_t>(redundant) / group_count;
  std::vector<double> group_loads(group_count, 0);
  for (std::size_t e = 0; e < loads.size(); ++e) group_loads[e / size] += loads[e];

  ExpertPlacement out;
  const std::size_t places = groups % nodes == 0 ? static_cast<std::size_t>(nodes) : 1;
  out.group_order = order_groups(group_loads, places);
  out.gpus.resize(static_cast<std::size_t>(gpus));
  for (std::size_t place = 0; place < group_count; ++place) {
    const auto begin = loads.begin() + static_cast<std::ptrdiff_t>(out.group_order[place] * size);
    const std::vector<double> own(begin, begin + static_cast<std::ptrdiff_t>(size));
    pack(own, count_copies(own, further), place * size, (size + further) / gpus_of_group,
         &out.gpus[place * gpus_of_group], gpus_of_group);
  }
  return out;
}

}  // namespace pipecast
