/// From a scenario to what its run takes: simulated steps, multiplied out, with the interval that
/// the assumptions leave.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "model/arithmetic/parameters.hpp"
#include "model/specs/scenario.hpp"
#include "sim/cluster/step_memory.hpp"

namespace pipecast {

/// One simulated training step.
struct StepForecast {
  std::string schedule;  ///< the plan's or its fallback
  Schedule passes;
  int microbatches = 0;  ///< per data-parallel rank
  Tokens tokens;
  StepPlan plan;
  StepTimes times;
};

/// A rank holds more than its GPUs have.
struct DoesNotFit : ImpossiblePlan {
  using ImpossiblePlan::ImpossiblePlan;
};

struct PhaseForecast {
  std::string name;
  bool simulated = false;
  std::optional<Tokens> tokens{};
  double gpu_hours = 0;
  double days = 0;
  Usd cost{};
};

struct Interval {
  double low = 0;
  double expected = 0;
  double high = 0;
};

/// Something that the forecast rests on and that nobody published; numeric ones with the range they
/// may have.
struct Assumption {
  std::string key;
  std::string value;
  std::optional<double> low;
  std::optional<double> high;
  std::string reason;
};

struct Sensitivity {
  std::string resource;
  double step_percent_per_percent = 0;
};

/// Parts of the step that would not be there in a more perfect world.
struct LostTime {
  double routing_imbalance_s = 0;      ///< the step less one with balanced routing
  double variation_s = 0;              ///< that one less one with equal GPUs, none of them late
  double pipeline_transfers_s = 0;     ///< waiting for a message on its way; mean over ranks
  double optimizer_collectives_s = 0;  ///< mean over ranks
};

struct Provenance {
  std::string operation;
  std::string kind;  ///< calibrated, public, modelled
  std::string source;
};

struct Throughput {
  double tflops_per_gpu_causal = 0;
  double tflops_per_gpu_noncausal = 0;
  double mfu_causal = 0;
  double mfu_noncausal = 0;
  Flops flop_per_token_causal;
  Flops flop_per_token_noncausal;
};

struct Forecast {
  StepForecast step;  ///< of the main phase: the simulated phase with the most tokens, at its last
                      ///< batch size
  StepMemory memory;  ///< of the same step
  Bytes memory_capacity;  ///< of a GPU, for tensors
  Throughput throughput;
  ParameterCount parameters;
  std::vector<std::int64_t>
      parameters_per_rank;  ///< held by one GPU of each pipeline rank, all copies
  std::vector<PhaseForecast> phases;
  double gpu_hours_per_trillion_tokens = 0;  ///< of the main phase
  double days_per_trillion_tokens = 0;
  PhaseForecast total;
  Interval step_time_s;
  Interval gpu_hours_per_trillion;
  Interval cost_usd;
  std::vector<Assumption> assumptions;
  std::vector<Sensitivity> sensitivities;
  LostTime lost;
  std::vector<Provenance> provenance;
  std::uint64_t events = 0;  ///< of all simulated steps: the main one, other batches, assumptions
};

/// The simulated phase with the most tokens.
/// @throws Error if no phase has tokens
const PhaseSpec& main_phase(const RecipeSpec& recipe);

/// Every batch size of a ramp, the last included.
std::vector<int> batch_sizes(const BatchRamp& ramp);

/// How the tokens of a plan's expert-parallel groups spread.
struct StepRouting {
  RoutingStatistics even;                ///< if routing were balanced
  std::shared_ptr<const Router> router;  ///< none: it is
  double fabric_slowdown = 1;            ///< of the NICs' part in the slowest group's exchanges
};

/// Who draws what the scenario's routing gives the plan's expert-parallel groups; reads the
/// recorded trace where there is one.
/// @throws Error if the routing does not fit the model or the plan
std::shared_ptr<const Router> make_router(const Scenario& scenario, const PlanSpec& plan,
                                          std::uint64_t seed);

/// @throws Error as make_router
/// @throws ImpossiblePlan if failures of the fabric leave a group no way
StepRouting step_routing(const Scenario& scenario, const PlanSpec& plan, std::uint64_t seed);

struct ForecastOptions {
  SimulationMode mode = SimulationMode::kFull;
  std::uint64_t seed = 1;  ///< of everything random
  int threads = 1;         ///< for the independent simulations of other batch sizes and assumptions
  StepTrace* trace = nullptr;  ///< of the main step
  std::function<void(std::string_view stage, double fraction)>
      progress{};  ///< may be empty; any thread
};

/// Batch sizes of a phase whose memory can differ: the ends of the ramp, and around the size from
/// which on there are enough micro-batches for the plan's own schedule. Of a ramp that runs one
/// schedule the ends stand for all: a peak does not shrink when more micro-batches follow.
std::vector<int> telling_batch_sizes(const Scenario& scenario, const PhaseSpec& phase);

/// Of every rank the GPU with most rows at its experts: in full mode of all its GPUs, in folded
/// mode of one expert-parallel group.
/// @param routing  with which the step was simulated
/// @param threads  for drawing loads
RowShares busiest_rows(const Scenario& scenario, const PlanSpec& plan, const StepForecast& step,
                       const StepRouting& routing, SimulationMode mode, int threads = 1);

/// Memory of those GPUs over a step.
StepMemory step_memory(const Scenario& scenario, const PlanSpec& plan, const StepForecast& step,
                       const StepRouting& routing, SimulationMode mode, int threads = 1);

/// @throws DoesNotFit that says of the fullest rank when, by how much and what it holds, if that is
/// more than the GPU has for tensors
void require_memory(const StepMemory& memory, const Scenario& scenario, const PlanSpec& plan,
                    const StepForecast& step);

/// A step before time passes: all of forecast_step but its times. Its memory peaks are those of the
/// simulated step, because they depend on the order of the passes alone.
/// @throws ImpossiblePlan if no schedule of the plan can run
StepForecast planned_step(const Scenario& scenario, const PlanSpec& plan, int global_batch,
                          const StepRouting& routing, SimulationMode mode);

/// Simulates one step. Does not check that it fits into memory.
/// @param plan         the phase's plan
/// @param global_batch sequences per step
/// @param routing      of the plan's expert-parallel groups
/// @param seed         of everything random but routing
/// @param threads      for the columns of a full simulation
/// @param explain      whether the critical path is wanted
/// @throws ImpossiblePlan if no schedule of the plan can run
StepForecast forecast_step(const Scenario& scenario, const PlanSpec& plan, int global_batch,
                           const StepRouting& routing, SimulationMode mode, std::uint64_t seed = 0,
                           int threads = 1, StepTrace* trace = nullptr, bool explain = true);

/// @throws ImpossiblePlan if a schedule cannot run
/// @throws DoesNotFit if a rank's memory does not hold what it must, in any step of the recipe
Forecast forecast(const Scenario& scenario, const ForecastOptions& options);

}  // namespace pipecast
