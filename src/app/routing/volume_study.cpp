#include "app/routing/volume_study.hpp"

#include <numeric>

#include "sim/cluster/exchange_plan.hpp"

namespace pipecast {

namespace {

double sum(const std::vector<float>& counts) {
  return std::accumulate(counts.begin(), counts.end(), 0.0);
}

void add(PortBytes& port, Bytes balanced, double mean_share, double busiest_share, double draws) {
  const auto bytes = static_cast<double>(balanced.count());
  port.mean += bytes * mean_share / draws;
  port.busiest += bytes * busiest_share / draws;
}

}  // namespace

VolumeStudy study_volume(const Scenario& scenario, const PlanSpec& plan,
                         const RoutingStatistics& even, const Router& router,
                         const LoadStudy& loads) {
  VolumeStudy out;
  const GroupLoad& balanced = router.balanced();
  const auto draws = static_cast<double>(loads.draws.size());
  const auto study = [&](Phase phase, ExchangeVolume& volume) {
    const PlannedExchange exchange = plan_exchange(exchange_kind(phase), scenario, plan, even);
    double stretch = 0;
    for (const GroupLoad& load : loads.draws) {
      const BusiestShares busiest = busiest_shares(load, balanced);
      add(volume.nic, exchange.load.nic, sum(load.node_copies) / sum(balanced.node_copies),
          busiest.nic, draws);
      add(volume.nvlink, exchange.load.nvlink, sum(load.received) / sum(balanced.received),
          busiest.copies, draws);
      stretch += stretch_of(exchange, busiest, scenario, plan) / draws;
    }
    volume.balanced = exchange.time;
    volume.time = duration_from_picoseconds(static_cast<double>(exchange.time.count()) * stretch);
  };
  study(Phase::kDispatchForward, out.dispatch);
  study(Phase::kCombineForward, out.combine);
  return out;
}

}  // namespace pipecast
