#include "sim/cluster/column_loads.hpp"

#include <algorithm>

namespace pipecast {

ColumnLoads::ColumnLoads(const Scenario& scenario, const PlanSpec& plan, const StepPlan& step,
                         const Router& router, int column)
    : microbatches_(static_cast<std::size_t>(step.microbatches)),
      group_(static_cast<std::size_t>(plan.ep)) {
  const GroupLoad even = router.balanced();
  const auto layers = static_cast<std::size_t>(step.moe_layers);
  gpus_.resize(layers * microbatches_ * group_);
  exchanges_.resize(layers * microbatches_);
  statistics_ = {.expert_max_over_mean = 0, .gpu_max_over_mean = 0, .nodes_per_token = 0};
  for (std::size_t layer = 0; layer < layers; ++layer) {
    for (std::size_t microbatch = 0; microbatch < microbatches_; ++microbatch) {
      const GroupLoad load =
          router.draw(column, static_cast<int>(layer), static_cast<int>(microbatch));
      const std::size_t at = layer * microbatches_ + microbatch;
      float most = 0;
      for (std::size_t gpu = 0; gpu < group_; ++gpu) {
        TaskLoad& share = gpus_[at * group_ + gpu];
        share = {load.rows[gpu] / even.rows[gpu], load.received[gpu] / even.received[gpu]};
        most = std::max(most, share.rows);
      }
      const BusiestShares shares = busiest_shares(load, even);
      exchanges_[at].nic = static_cast<float>(shares.nic);
      for (std::size_t kind = 0; kind < kExchangeKinds; ++kind) {
        exchanges_[at].stretch[kind] =
            static_cast<float>(stretch_of(step.exchanges[kind], shares, scenario, plan));
      }
      statistics_.gpu_max_over_mean += static_cast<double>(most);
      statistics_.expert_max_over_mean += load.expert_max_over_mean;
      statistics_.nodes_per_token += load.nodes_per_token;
    }
  }
  const auto draws = static_cast<double>(std::max<std::size_t>(1, exchanges_.size()));
  statistics_.gpu_max_over_mean /= draws;
  statistics_.expert_max_over_mean /= draws;
  statistics_.nodes_per_token /= draws;
}

}  // namespace pipecast
