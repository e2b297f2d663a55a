/// Plays a planned step on the event engine, every simulated GPU an actor with its own clock.
#pragma once

#include <string>
#include <vector>

#include "sim/cluster/critical_path.hpp"
#include "sim/cluster/step_plan.hpp"

namespace pipecast {

enum class SimulationMode {
  kFull,    ///< every GPU by itself
  kFolded,  ///< one data-parallel replica of the pipeline stands for all
};

/// Communication inside chunks and how much of it computation hides; means over the GPUs of a rank.
struct OverlapTimes {
  Duration communication;      ///< transfers of dispatch and combine
  Duration hidden;             ///< ... while the compute stream was busy
  Duration exposed;            ///< ... while it was not
  Duration waiting_for_peers;  ///< from a GPU's own arrival at an all-to-all to the last one's
};

struct RankTimes {
  std::array<Duration, kTimeCategories> breakdown;  ///< sums to the step's time
  OverlapTimes overlap;
};

struct LinkUse {
  Bytes bytes;               ///< sent by all simulated GPUs
  double busy_fraction = 0;  ///< mean over GPUs, at the bandwidth that transfers reach
};

/// A stretch of one stream of one pipeline rank's first GPU.
struct StreamSpan {
  int pipeline_rank = 0;
  Stream stream{};
  LayerKind layer{};
  Phase phase{};
  bool collective = false;
  Time start;
  Time end;
};

struct ChunkSpan {
  int pipeline_rank = 0;
  std::string name;  ///< "F0.3&B1.1", or a stage of the optimizer
  Time start;
  Time end;
};

struct StepTrace {
  std::vector<ChunkSpan> chunks;
  std::vector<StreamSpan> streams;
};

struct StepTimes {
  Duration time;
  std::vector<RankTimes> ranks;
  std::vector<CriticalShare> critical_path;  ///< longest first; sums to `time`
  LinkUse nic;
  LinkUse nvlink;
  std::uint64_t events = 0;
  int simulated_gpus = 0;
};

/// Not modelled: pipeline messages and all-to-alls sharing a NIC at the same moment (each has it
/// alone; messages of one GPU queue among themselves), jitter, failures.
/// @param schedule  what `plan` was made from, for names in the trace
/// @param trace     filled if given
StepTimes simulate_step(const Scenario& scenario, const PlanSpec& plan_spec, const StepPlan& plan,
                        const Schedule& schedule, SimulationMode mode, StepTrace* trace = nullptr);

}  // namespace pipecast
