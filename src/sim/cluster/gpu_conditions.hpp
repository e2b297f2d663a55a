/// What makes one GPU's chunk different from another's: loads, speed, chance. The same whenever it
/// is asked for.
#pragma once

#include <optional>
#include <vector>

#include "sim/cluster/column_loads.hpp"
#include "sim/gpu/chunk_play.hpp"

namespace pipecast {

/// Of a whole step.
struct StepConditions {
  SimulationMode mode = SimulationMode::kFull;
  const Router* router = nullptr;  ///< none: balanced
  std::uint64_t seed = 0;
  bool explain = true;  ///< whether the critical path is wanted
};

/// Mean of the greatest of n standard normal numbers.
double expected_greatest_normal(int n);

/// GPUs of one column. In folded mode one GPU of each rank stands for its group and is as slow as
/// the slowest of them is expected to be.
class GpuConditions {
 public:
  GpuConditions(const Scenario& scenario, const PlanSpec& plan_spec, const StepPlan& plan,
                const StepConditions& conditions, int column);

  /// @param index  of the GPU in its group
  /// @param step   position in its rank's schedule
  /// @param loads  room for one of every layer of the chunk, filled; outlives the chunk
  [[nodiscard]] ChunkConditions chunk(int rank, int index, int step, TaskLoad* loads) const;

  /// How long after it is ready a GPU enters an exchange.
  [[nodiscard]] Duration delay(Random& random) const;

  struct Exchange {
    Duration time;       ///< if nothing else is on the NICs
    double nic_use = 0;  ///< part of that in which the busiest NIC port is busy
  };
  [[nodiscard]] Exchange exchange(const Task& task, const PlannedStep& step) const;

  [[nodiscard]] int group_size() const { return group_; }
  [[nodiscard]] const std::optional<ColumnLoads>& loads() const { return loads_; }

 private:
  void set_speeds(const VariationSpec& variation, int ranks, int data_parallel,
                  const StepConditions& conditions, int column);

  const StepPlan& plan_;
  bool folded_;
  int group_;  // GPUs that are simulated
  int column_;
  std::uint64_t seed_;
  std::optional<ColumnLoads> loads_;
  double jitter_;
  bool random_;  // whether chunks need random numbers
  Duration mean_delay_;
  std::vector<double> slowness_;  // [rank * group + index]
};

}  // namespace pipecast
