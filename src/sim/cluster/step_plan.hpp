/// A training step before time passes: who runs which chunk in which order, who waits for whose
/// message, what the optimizer's collectives cost.
#pragma once

#include <array>
#include <vector>

#include "model/routing/router.hpp"
#include "model/schedules/plan_schedule.hpp"
#include "model/schedules/schedule.hpp"
#include "model/specs/scenario.hpp"
#include "sim/cluster/exchange_plan.hpp"
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

enum class SimulationMode {
  kFull,    ///< every GPU by itself
  kFolded,  ///< one data-parallel replica of the pipeline stands for all
};

/// One message to another pipeline rank: an activation forward or a gradient backward.
struct PlannedSend {
  int rank = -1;  ///< receiver; -1: none
  int slot = 0;   ///< where the receiver expects it
};

/// A micro-batch, counted over all directions, on its way through a stage.
struct PlannedPass {
  int stage = -1;  ///< -1: none
  int microbatch = 0;
};

/// One entry of a rank's schedule.
struct PlannedStep {
  int program = 0;
  std::array<PlannedPass, 2> passes{};  ///< of a pair the forward first
  TimeCategory category{};
  std::array<int, 2> needs = {-1, -1};  ///< slots that must have been filled; -1: none
  std::array<PlannedSend, 2> sends{};
};

/// The end of the step on one pipeline rank.
struct OptimizerPlan {
  Duration reduce_scatter;
  Duration update;  ///< gradient norm and AdamW on this GPU's shard, and what it waits for
  Duration all_gather;
  Bytes nic_bytes;
  Bytes nvlink_bytes;
  Bytes pcie_bytes{};           ///< of an optimizer on the host, each way
  std::vector<WorkShare> work;  ///< of `update`
};

struct StepPlan {
  std::vector<ChunkProgram> programs;
  std::vector<std::vector<PlannedStep>> steps;  ///< [pipeline rank][position]
  bool trains = true;                           ///< forwards alone update no parameter
  std::vector<OptimizerPlan> optimizer;         ///< [pipeline rank]; nothing if it does not train
  std::vector<std::vector<int>>
      reduction_groups;      ///< pipeline ranks that reduce their gradients together
  int slots = 0;             ///< per GPU
  Duration norm_all_reduce;  ///< of one number, over all GPUs
  Bytes message;             ///< one activation or gradient between stages
  RoutingStatistics routing;
  std::vector<std::vector<int>> moe_layer;  ///< [stage][position] counted over all stages; -1: none
  int moe_layers = 0;
  int microbatches = 0;  ///< of all directions
  std::array<PlannedExchange, kExchangeKinds> exchanges{};
  BusiestLoad busiest;  ///< expected of an expert-parallel group; folded mode goes at its pace

  [[nodiscard]] int ranks() const { return static_cast<int>(steps.size()); }
};

/// What a plan is made for.
struct PlanConditions {
  SimulationMode mode = SimulationMode::kFull;
  const Router* router = nullptr;  ///< how tokens spread; none: evenly
  double fabric_slowdown = 1;      ///< of the NICs' part in exchanges (fabric_slowdown())
};

/// @param routing  of the plan's expert-parallel groups, were it balanced
/// @throws Error for operations that the GPU cannot run
StepPlan plan_step(const Scenario& scenario, const PlanSpec& plan, const Schedule& schedule,
                   const RoutingStatistics& routing, const PlanConditions& conditions = {});

}  // namespace pipecast
