/// A training step before time passes: who runs which chunk in which order, who waits for whose
/// message, what the optimizer's collectives cost.
#pragma once

#include <array>
#include <vector>

#include "model/schedules/schedule.hpp"
#include "model/specs/scenario.hpp"
#include "sim/gpu/chunk.hpp"
#include "sim/network/placement.hpp"

namespace pipecast {

/// Where a pipeline rank's time goes; the keys of `breakdown_s` in the contract.
enum class TimeCategory {
  kForward,
  kBackwardInput,
  kBackwardFull,
  kBackwardWeight,
  kOverlapped,
  kOptimizer,
  kCommunicationExposed,
  kBubble,
};
inline constexpr int kTimeCategories = 8;
std::string_view name_of(TimeCategory category);

/// One message to another pipeline rank: an activation forward or a gradient backward.
struct PlannedSend {
  int rank = -1;  ///< receiver; -1: none
  int slot = 0;   ///< where the receiver expects it
};

/// One entry of a rank's schedule.
struct PlannedStep {
  int program = 0;
  TimeCategory category{};
  std::array<int, 2> needs = {-1, -1};  ///< slots that must have been filled; -1: none
  std::array<PlannedSend, 2> sends{};
};

/// The end of the step on one pipeline rank.
struct OptimizerPlan {
  Duration reduce_scatter;
  Duration update;  ///< gradient norm and AdamW on this GPU's shard
  Duration all_gather;
  Bytes nic_bytes;
  Bytes nvlink_bytes;
  std::vector<WorkShare> work;  ///< of `update`
};

struct StepPlan {
  std::vector<ChunkProgram> programs;
  std::vector<std::vector<PlannedStep>> steps;  ///< [pipeline rank][position]
  std::vector<OptimizerPlan> optimizer;         ///< [pipeline rank]
  std::vector<std::vector<int>>
      reduction_groups;      ///< pipeline ranks that reduce their gradients together
  int slots = 0;             ///< per GPU
  Duration norm_all_reduce;  ///< of one number, over all GPUs
  Bytes message;             ///< one activation or gradient between stages
  RoutingStatistics routing;

  [[nodiscard]] int ranks() const { return static_cast<int>(steps.size()); }
};

/// The schedule that a step of this many micro-batches uses: the plan's, or its fallback where that
/// cannot run.
/// @throws ImpossiblePlan if neither can
struct ChosenSchedule {
  std::string name;
  Schedule schedule;
};
ChosenSchedule choose_schedule(const PlanSpec& plan, int microbatches);

/// @param routing  of the plan's expert-parallel groups
/// @throws Error for operations that the GPU cannot run
StepPlan plan_step(const Scenario& scenario, const PlanSpec& plan, const Schedule& schedule,
                   const RoutingStatistics& routing);

}  // namespace pipecast
