/// What routing gives every GPU of one column: the expert-parallel groups, one on every pipeline
/// rank, that pass each other's micro-batches on.
#pragma once

#include <array>
#include <vector>

#include "sim/cluster/step_plan.hpp"

namespace pipecast {

/// What one group meets in one layer of one micro-batch.
struct GroupExchange {
  std::array<float, kExchangeKinds> stretch = {1, 1, 1};  ///< of its exchanges
  float nic = 1;  ///< load of its busiest NIC port over the balanced one
};

/// Draws all loads of a column at once; they are looked up for every chunk of every GPU.
class ColumnLoads {
 public:
  ColumnLoads(const Scenario& scenario, const PlanSpec& plan, const StepPlan& step,
              const Router& router, int column);

  [[nodiscard]] const TaskLoad& gpu(int layer, int microbatch, int index) const {
    return gpus_[place(layer, microbatch) * group_ + static_cast<std::size_t>(index)];
  }
  [[nodiscard]] const GroupExchange& exchange(int layer, int microbatch) const {
    return exchanges_[place(layer, microbatch)];
  }
  [[nodiscard]] const LoadMeans& statistics() const { return statistics_; }

 private:
  [[nodiscard]] std::size_t place(int layer, int microbatch) const {
    return static_cast<std::size_t>(layer) * microbatches_ + static_cast<std::size_t>(microbatch);
  }

  std::size_t microbatches_;
  std::size_t group_;
  std::vector<TaskLoad> gpus_;
  std::vector<GroupExchange> exchanges_;
  LoadMeans statistics_;
};

}  // namespace pipecast
