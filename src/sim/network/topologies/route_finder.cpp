#include "sim/network/topologies/route_finder.hpp"

#include <algorithm>
#include <boost/graph/breadth_first_search.hpp>
#include <boost/graph/filtered_graph.hpp>
#include <boost/graph/reverse_graph.hpp>
#include <limits>
#include <set>

#include "base/random.hpp"

namespace pipecast {

namespace {

/// Keeps links from switches to GPUs out of the search, but for those into the destination's node.
struct IntoNode {
  const Graph* graph = nullptr;
  Vertex nvswitch = 0;  ///< the destination's; its GPUs follow it
  Vertex last = 0;

  bool operator()(const Edge& edge) const {
    const Vertex to = boost::target(edge, *graph);
    if ((*graph)[to].kind != DeviceKind::kGpu) return true;
    if ((*graph)[boost::source(edge, *graph)].kind != DeviceKind::kSwitch) return true;
    return to > nvswitch && to <= last;
  }
};

/// Writes how many edges lie before every vertex.
class HopRecorder : public boost::default_bfs_visitor {
 public:
  explicit HopRecorder(std::vector<std::int32_t>& hops) : hops_(&hops) {}
  template <class E, class G>
  void tree_edge(const E& edge, const G& graph) {
    (*hops_)[boost::target(edge, graph)] = (*hops_)[boost::source(edge, graph)] + 1;
  }

 private:
  std::vector<std::int32_t>* hops_;
};

}  // namespace

RouteFinder::RouteFinder(const FabricGraph& fabric, FabricRouting routing, std::int64_t seed)
    : fabric_(fabric),
      routing_(routing),
      seed_(static_cast<std::uint64_t>(seed)),
      ports_(fabric.gpus.size()),
      bytes_(fabric.links.size()) {
  std::map<Vertex, std::vector<std::size_t>> below;  // leaves in the order they were added
  for (std::size_t gpu = 0; gpu < fabric.gpus.size(); ++gpu) {
    for (auto [e, end] = boost::out_edges(fabric.gpus[gpu], fabric.graph); e != end; ++e) {
      const Vertex to = boost::target(*e, fabric.graph);
      if (fabric.graph[to].kind == DeviceKind::kSwitch) below[to].push_back(gpu);
    }
  }
  std::map<int, std::size_t> next;
  for (const auto& [leaf, gpus] : below) {
    for (const std::size_t gpu : gpus) ports_[gpu] = next[fabric.graph[leaf].plane]++;
  }
}

const RouteFinder::Hops& RouteFinder::hops_to(int to) {
  const auto [it, fresh] = hops_.try_emplace(to);
  if (!fresh) return it->second;
  const Graph& graph = fabric_.graph;
  const Vertex destination = fabric_.gpus.at(static_cast<std::size_t>(to));
  const auto index = static_cast<Vertex>(to % fabric_.gpus_per_node());
  const Vertex nvswitch = destination - index - 1;
  const IntoNode into{&graph, nvswitch, nvswitch + static_cast<Vertex>(fabric_.gpus_per_node())};
  const boost::filtered_graph<Graph, IntoNode> usable(graph, into);
  it->second.assign(boost::num_vertices(graph), -1);
  it->second[destination] = 0;
  boost::breadth_first_search(boost::make_reverse_graph(usable), destination,
                              boost::visitor(HopRecorder(it->second)));
  return it->second;
}

std::vector<Edge> RouteFinder::next_hops(Vertex at, const Hops& hops) const {
  std::vector<Edge> out;
  for (auto [e, end] = boost::out_edges(at, fabric_.graph); e != end; ++e) {
    if (hops[boost::target(*e, fabric_.graph)] == hops[at] - 1) out.push_back(*e);
  }
  return out;
}

RouteFinder::Load RouteFinder::load_ahead(const Edge& edge, const Hops& hops,
                                          std::map<Vertex, Load>& known) const {
  const Graph& graph = fabric_.graph;
  const Vertex next = boost::target(edge, graph);
  // The last link is the same whichever way is taken.
  if (hops[next] == 0) return {};
  const LinkIndex link = graph[edge].link;
  const double own = bytes_[link] / fabric_.links[link].bandwidth.count();
  if (known.count(next) == 0) {
    Load best{.worst = std::numeric_limits<double>::infinity()};
    for (const Edge& way : next_hops(next, hops)) {
      best = std::min(best, load_ahead(way, hops, known));
    }
    known[next] = best;
  }
  const Load& rest = known[next];
  return {.worst = std::max(own, rest.worst), .sum = own + rest.sum};
}

Edge RouteFinder::least_loaded(const std::vector<Edge>& ways, const Hops& hops) {
  std::map<Vertex, Load> known;
  Edge best = ways.front();
  Load least = load_ahead(best, hops, known);
  for (const Edge& way : ways) {
    const Load load = load_ahead(way, hops, known);
    if (load < least) {
      least = load;
      best = way;
    }
  }
  return best;
}

Edge RouteFinder::choose(Vertex at, const std::vector<Edge>& ways, int from, int to,
                         std::size_t& stride, const Hops& hops) {
  // GPUs know their own links in the order NVLink, NIC.
  if (ways.size() == 1 || fabric_.graph[at].kind == DeviceKind::kGpu) return ways.front();
  switch (routing_) {
    case FabricRouting::kStatic: {
      // Destinations are dealt out in turn, by the part of their number that has not chosen a
      // switch on the way yet: D-mod-K (Zahavi 2012).
      const std::size_t number = ports_[static_cast<std::size_t>(to)] / stride;
      std::set<Vertex> neighbours;
      for (const Edge& way : ways) neighbours.insert(boost::target(way, fabric_.graph));
      stride *= neighbours.size();
      return ways[number % ways.size()];
    }
    case FabricRouting::kEcmp: {
      const auto both = (static_cast<std::uint64_t>(from) << 32U) | static_cast<std::uint64_t>(to);
      Random hash(seed_ ^ (both * 0x9E3779B97F4A7C15ULL), "ecmp", at);
      return ways[hash.below(ways.size())];
    }
    case FabricRouting::kAdaptive:
      return least_loaded(ways, hops);
  }
  return ways.front();
}

std::vector<LinkIndex> RouteFinder::route(int from, int to, Bytes load) {
  const Hops& hops = hops_to(to);
  Vertex at = fabric_.gpus.at(static_cast<std::size_t>(from));
  require<ImpossiblePlan>(hops[at] >= 0, "there is no way from {} to {}: {}",
                          fabric_.gpu_name(from), fabric_.gpu_name(to),
                          "too many of the links and switches between them have failed");
  std::vector<LinkIndex> out;
  std::size_t stride = 1;
  while (hops[at] > 0) {
    const Edge edge = choose(at, next_hops(at, hops), from, to, stride, hops);
    out.push_back(fabric_.graph[edge].link);
    at = boost::target(edge, fabric_.graph);
  }
  for (const LinkIndex link : out) bytes_[link] += static_cast<double>(load.count());
  return out;
}

}  // namespace pipecast
