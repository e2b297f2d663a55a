#include "sim/cluster/step_plan.hpp"

#include <algorithm>
#include <cmath>
#include <map>
#include <tuple>

#include "model/arithmetic/parameters.hpp"
#include "sim/cluster/optimizer_plan.hpp"

namespace pipecast {

namespace {

enum class MessageKind { kActivation, kGradient };

/// Slots of one GPU: (lane that the message is for, its kind, micro-batch).
class Slots {
 public:
  explicit Slots(const Schedule& schedule) {
    for (const int n : schedule.microbatches) microbatches_ = std::max(microbatches_, n);
    count_ = schedule.lanes() * 2 * microbatches_;
  }
  [[nodiscard]] int of(MessageKind kind, int lane, int microbatch) const {
    return (lane * 2 + static_cast<int>(kind)) * microbatches_ + microbatch;
  }
  [[nodiscard]] int count() const { return count_; }

 private:
  int microbatches_ = 0;
  int count_ = 0;
};

TimeCategory category_of(const Step& step) {
  if (step.overlapped) return TimeCategory::kOverlapped;
  switch (step.first.pass) {
    case Pass::kForward:
      return TimeCategory::kForward;
    case Pass::kBackward:
      return TimeCategory::kBackwardFull;
    case Pass::kBackwardInput:
      return TimeCategory::kBackwardInput;
    case Pass::kBackwardWeight:
      return TimeCategory::kBackwardWeight;
  }
  return TimeCategory::kBubble;
}

/// Turns a schedule's steps into programs, needs and sends.
class Planner {
 public:
  /// @param uneven  whether GPUs have loads of their own
  /// @param folded  whether one GPU stands for those of its group
  Planner(const Schedule& schedule, ChunkBuilder& builder, const PlanSpec& plan, bool uneven,
          bool folded, StepPlan& out)
      : schedule_(schedule),
        builder_(builder),
        plan_(plan),
        uneven_(uneven),
        folded_(folded),
        slots_(schedule),
        holders_(holders_of_stages(schedule)),
        out_(out) {
    out.slots = slots_.count();
    int before = 0;
    for (const int microbatches : schedule.microbatches) {
      first_microbatch_.push_back(before);
      before += microbatches;
    }
    out.microbatches = before;
  }

  void run() {
    for (std::size_t rank = 0; rank < schedule_.ranks.size(); ++rank) {
      auto& steps = out_.steps.emplace_back();
      for (const Step& step : schedule_.ranks[rank]) steps.push_back(planned(rank, step));
    }
  }

 private:
  PlannedStep planned(std::size_t rank, const Step& step) {
    PlannedStep out{.program = program_of(rank, step), .category = category_of(step)};
    out.passes[0] = planned(rank, step.first);
    connect(rank, step.first, 0, out);
    if (step.overlapped) {
      out.passes[1] = planned(rank, step.second);
      connect(rank, step.second, 1, out);
    }
    return out;
  }

  [[nodiscard]] PlannedPass planned(std::size_t rank, const ChunkPass& pass) const {
    return {
        .stage = stage_of(rank, pass),
        .microbatch = first_microbatch_[static_cast<std::size_t>(schedule_.path_of(pass.lane))] +
                      pass.microbatch};
  }

  [[nodiscard]] int stage_of(std::size_t rank, const ChunkPass& pass) const {
    return schedule_.stage_of[static_cast<std::size_t>(pass.lane)][rank];
  }

  /// Stages on one rank pass nothing over links: the order of its list is enough.
  void connect(std::size_t rank, const ChunkPass& pass, std::size_t which, PlannedStep& out) const {
    if (pass.pass == Pass::kBackwardWeight) return;
    const bool forward = pass.pass == Pass::kForward;
    const MessageKind kind = forward ? MessageKind::kActivation : MessageKind::kGradient;
    const int stage = stage_of(rank, pass);
    const StageHolder* const from = elsewhere(rank, pass, forward ? stage - 1 : stage + 1);
    const StageHolder* const to = elsewhere(rank, pass, forward ? stage + 1 : stage - 1);
    if (from != nullptr) out.needs[which] = slots_.of(kind, pass.lane, pass.microbatch);
    if (to != nullptr) {
      out.sends[which] = {.rank = to->rank, .slot = slots_.of(kind, to->lane, pass.microbatch)};
    }
  }

  /// Who holds a stage of the pass's path; null if the path ends before it or the rank itself does.
  [[nodiscard]] const StageHolder* elsewhere(std::size_t rank, const ChunkPass& pass,
                                             int stage) const {
    if (stage < 0 || stage >= schedule_.stages()) return nullptr;
    const auto path = static_cast<std::size_t>(schedule_.path_of(pass.lane));
    const StageHolder& holder = holders_[path][static_cast<std::size_t>(stage)];
    return holder.rank == static_cast<int>(rank) ? nullptr : &holder;
  }

  int program_of(std::size_t rank, const Step& step) {
    // Stages of the same layers share a program if as many ranks hold them.
    const int first = stage_of(rank, step.first);
    const ChunkShape shape = step.overlapped
                                 ? builder_.overlapped_shape(first, stage_of(rank, step.second))
                                 : builder_.single_shape(step.first.pass, first);
    const auto [it, fresh] = programs_.try_emplace(
        {shape.kind, shape.forward, shape.backward, shape.forward_holders, shape.backward_holders},
        static_cast<int>(out_.programs.size()));
    if (fresh) {
      out_.programs.push_back(folded_ ? at_pace_of_busiest(shape) : for_every_gpu(shape));
    }
    return it->second;
  }

  ChunkProgram for_every_gpu(const ChunkShape& shape) {
    ChunkProgram out = builder_.program(shape);
    if (uneven_) builder_.add_curves(shape, out);
    return out;
  }

  /// One replica stands for all, and all go at the pace of the busiest. Exchanges keep the time of
  /// balanced routing: their stretch is the group's.
  ChunkProgram at_pace_of_busiest(const ChunkShape& balanced) {
    ChunkProgram even = builder_.program(balanced);
    if (!uneven_) return even;
    const BusiestLoad& busiest = out_.busiest;
    const bool pair = balanced.kind == ChunkKind::kOverlapped;
    ChunkShape busy = balanced;
    busy.forward_loads.assign(busy.forward.size(), load_of(pair ? busiest.forward : busiest.alone));
    busy.backward_loads.assign(busy.backward.size(),
                               load_of(pair ? busiest.backward : busiest.alone));
    ChunkProgram out = builder_.program(busy);
    for (std::size_t i = 0; i < out.tasks.size(); ++i) {
      out.tasks[i].transfer = even.tasks[i].transfer;
    }
    return out;
  }

  [[nodiscard]] LayerLoad load_of(const TaskLoad& share) {
    LayerLoad load = builder_.kernels().balanced();
    const auto scaled = [](std::int64_t count, float factor) {
      return std::llround(static_cast<double>(count) * static_cast<double>(factor));
    };
    load.routed_tokens = scaled(load.routed_tokens, share.rows);
    load.received_tokens = scaled(load.received_tokens, share.received);
    return load;
  }

  const Schedule& schedule_;
  ChunkBuilder& builder_;
  const PlanSpec& plan_;
  bool uneven_;
  bool folded_;
  Slots slots_;
  std::vector<int> first_microbatch_;  // of every path
  std::vector<std::vector<StageHolder>> holders_;
  std::map<std::tuple<ChunkKind, std::vector<LayerKind>, std::vector<LayerKind>, int, int>, int>
      programs_;
  StepPlan& out_;
};

/// Numbers the layers with an exchange, stage after stage.
void number_layers(const PipelineLayout& layout, StepPlan& out) {
  for (const std::vector<LayerKind>& stage : layout) {
    auto& numbers = out.moe_layer.emplace_back();
    for (const LayerKind kind : stage) {
      const bool moe = kind == LayerKind::kMoe || kind == LayerKind::kMtp;
      numbers.push_back(moe ? out.moe_layers++ : -1);
    }
  }
}

/// How often a layer's backward multiplies the rows of its experts where its forward does it once:
/// for two gradients, and once more if it runs the forward again.
float backward_work(const PlanSpec& plan) { return plan.recompute.full ? 3 : 2; }

void add(TaskLoad& mean, const GroupLoad& load, const GroupLoad& even, std::size_t gpu, int draws) {
  mean.rows += load.rows[gpu] / even.rows[gpu] / static_cast<float>(draws);
  mean.received += load.received[gpu] / even.received[gpu] / static_cast<float>(draws);
}

/// Means over layers and micro-batches, enough of them for an error of the mean below a percent.
BusiestLoad expected_busiest(const Scenario& scenario, const PlanSpec& plan, const StepPlan& step,
                             const Router& router) {
  constexpr int kDraws = 48;
  const GroupLoad even = router.balanced();
  BusiestLoad out{.alone = {0, 0},
                  .forward = {0, 0},
                  .backward = {0, 0},
                  .stretch = {0, 0, 0},
                  .nic = 0,
                  .statistics = {.expert_max_over_mean = 0, .gpu_max_over_mean = 0}};
  GroupLoad other = router.draw(0, 0, step.microbatches - 1);
  for (int draw = 0; draw < kDraws; ++draw) {
    const int layer = draw * std::max(1, step.moe_layers) / kDraws;
    GroupLoad load = router.draw(0, layer, draw % step.microbatches);
    std::size_t most = 0;
    std::size_t most_of_pair = 0;
    const auto pair = [&](std::size_t gpu) {
      return load.rows[gpu] + backward_work(plan) * other.rows[gpu];
    };
    for (std::size_t gpu = 1; gpu < load.rows.size(); ++gpu) {
      if (load.rows[gpu] > load.rows[most]) most = gpu;
      if (pair(gpu) > pair(most_of_pair)) most_of_pair = gpu;
    }
    add(out.alone, load, even, most, kDraws);
    add(out.forward, load, even, most_of_pair, kDraws);
    add(out.backward, other, even, most_of_pair, kDraws);
    out.statistics.gpu_max_over_mean +=
        static_cast<double>(load.rows[most] / even.rows[most]) / kDraws;
    out.statistics.expert_max_over_mean += load.expert_max_over_mean / kDraws;
    out.statistics.nodes_per_token += load.nodes_per_token / kDraws;
    const BusiestShares shares = busiest_shares(load, even);
    out.nic += shares.nic / kDraws;
    for (std::size_t kind = 0; kind < kExchangeKinds; ++kind) {
      out.stretch[kind] += stretch_of(step.exchanges[kind], shares, scenario, plan) / kDraws;
    }
    other = std::move(load);
  }
  return out;
}

/// Ranks by the stages that they hold, each once: both directions of the middle rank of an odd
/// pipeline share one. Ranks with the same stages reduce their gradients together.
std::map<std::vector<int>, std::vector<int>> ranks_by_stages(const Schedule& schedule) {
  std::map<std::vector<int>, std::vector<int>> out;
  for (std::size_t rank = 0; rank < schedule.ranks.size(); ++rank) {
    std::vector<int> stages;
    stages.reserve(schedule.stage_of.size());
    for (const std::vector<int>& held : schedule.stage_of) stages.push_back(held[rank]);
    std::sort(stages.begin(), stages.end());
    stages.erase(std::unique(stages.begin(), stages.end()), stages.end());
    out[stages].push_back(static_cast<int>(rank));
  }
  return out;
}

/// By stage.
std::vector<int> count_holders(const Schedule& schedule) {
  std::vector<int> out(static_cast<std::size_t>(schedule.stages()), 0);
  for (const auto& [stages, ranks] : ranks_by_stages(schedule)) {
    for (const int stage : stages) {
      out[static_cast<std::size_t>(stage)] = static_cast<int>(ranks.size());
    }
  }
  return out;
}

void plan_optimizers(const Scenario& scenario, const PlanSpec& plan, const Schedule& schedule,
                     StepPlan& out) {
  out.trains = has_backward(schedule);
  out.optimizer.resize(schedule.ranks.size());
  const Placement placement(scenario.cluster, scenario.data_parallel());
  for (const auto& [stages, ranks] : ranks_by_stages(schedule)) {
    out.reduction_groups.push_back(ranks);
    if (!out.trains) continue;
    HeldParameters held;
    for (const int stage : stages) {
      held += parameters_of_stage(scenario.model,
                                  plan.pipeline_layout[static_cast<std::size_t>(stage)], plan.ep);
    }
    const OptimizerPlan optimizer =
        plan_optimizer(scenario, plan, held, static_cast<int>(ranks.size()), placement);
    for (const int rank : ranks) out.optimizer[static_cast<std::size_t>(rank)] = optimizer;
  }
  if (out.trains) out.norm_all_reduce = all_reduce_latency(scenario.cluster);
}

}  // namespace

std::string_view name_of(TimeCategory category) {
  static constexpr std::string_view kNames[] = {
      "forward",    "backward_input", "backward_full",         "backward_weight",
      "overlapped", "optimizer",      "communication_exposed", "bubble"};
  return kNames[static_cast<int>(category)];
}

StepPlan plan_step(const Scenario& scenario, const PlanSpec& plan, const Schedule& schedule,
                   const RoutingStatistics& routing, const PlanConditions& conditions) {
  ChunkBuilder builder(scenario, plan, routing, count_holders(schedule));
  StepPlan out;
  number_layers(plan.pipeline_layout, out);
  for (std::size_t kind = 0; plan.ep > 1 && kind < kExchangeKinds; ++kind) {
    out.exchanges[kind] = plan_exchange(kind, scenario, plan, routing, conditions.fabric_slowdown);
    out.busiest.stretch[kind] = stretch_of(out.exchanges[kind], {}, scenario, plan);
  }
  const bool uneven = conditions.router != nullptr && plan.ep > 1;
  const bool folded = conditions.mode == SimulationMode::kFolded;
  Planner planner(schedule, builder, plan, uneven, folded, out);
  out.busiest.statistics.nodes_per_token = routing.nodes_per_token;
  if (uneven && folded) out.busiest = expected_busiest(scenario, plan, out, *conditions.router);
  planner.run();
  plan_optimizers(scenario, plan, schedule, out);
  const std::int64_t tokens = plan.micro_batch_size * scenario.recipe.seq_length;
  out.message = stored_bytes(plan.precision.pipeline_transfer, tokens, scenario.model.hidden_size);
  out.routing = routing;
  return out;
}

}  // namespace pipecast
