/// One column of a step: an expert-parallel group on every pipeline rank, and the messages between
/// them. Columns meet nobody else before the optimizer, so that threads may play them at once.
#pragma once

#include <memory>
#include <vector>

#include "sim/cluster/gpu_conditions.hpp"

namespace pipecast {

/// Communication inside chunks and how much of it computation hides.
struct OverlapTimes {
  Duration communication;      ///< transfers of dispatch and combine, weights and gradients
  Duration hidden;             ///< ... while the compute stream was busy
  Duration exposed;            ///< ... while it was not
  Duration waiting_for_peers;  ///< from a GPU's own arrival at an all-to-all to the last one's
};

/// Where one GPU's time went until its last pass ended.
struct GpuTimes {
  std::array<Duration, kTimeCategories> breakdown{};
  OverlapTimes overlap;
  Time finished;
};

/// A step of the schedule on one GPU: when it ran, and who let it begin.
struct PlayedStep {
  Time begin;
  Time end;
  Duration under_way;             ///< of the message that was waited for
  std::int32_t sender_rank = -1;  ///< of that message; -1: the GPU's own previous step was last
  std::int32_t sender_step = 0;
};

/// An exchange of one group.
struct PlayedExchange {
  Time start;  ///< when the last GPU arrived
  Time end;
  std::int32_t last = 0;  ///< which one, counted in its group
};

/// What happened, for whoever asks why. GPUs are counted by pipeline rank, then within their group.
struct ColumnRecord {
  std::vector<std::vector<PlayedStep>> steps;          ///< [GPU][position in its schedule]
  std::vector<std::vector<PlayedExchange>> exchanges;  ///< [pipeline rank], in their order
};

struct ColumnTimes {
  std::vector<GpuTimes> gpus;  ///< pipeline rank by pipeline rank
  ColumnRecord record;
  std::unique_ptr<const GpuConditions> conditions;  ///< under which the GPUs ran
  Bytes nic_bytes;                                  ///< of messages
  Bytes nvlink_bytes;
  std::uint64_t events = 0;
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
  ShardMove move{};
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

/// @param column  which replicas: column * plan.ep and the next ones
/// @param trace   of the first column, filled if given
/// @throws ImpossiblePlan if the schedule deadlocks
ColumnTimes simulate_column(const Scenario& scenario, const PlanSpec& plan_spec,
                            const StepPlan& plan, const Schedule& schedule,
                            const StepConditions& conditions, int column,
                            StepTrace* trace = nullptr);

}  // namespace pipecast
