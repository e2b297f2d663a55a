#include "sim/cluster/step_simulation.hpp"

#include <algorithm>
#include <optional>

#include "sim/cluster/critical_path.hpp"
#include "sim/engine/engine.hpp"
#include "sim/engine/resource.hpp"

namespace pipecast {

namespace {

enum EventKind : std::uint32_t {
  kMessageArrived,     // actor: receiving GPU; argument: slot
  kChunkEnded,         // actor: GPU
  kCollectiveReached,  // actor: GPU
  kCollectiveDone,     // actor: expert-parallel group
  kGradientsReduced,   // actor: reduction group
  kParametersGathered  // actor: pipeline rank
};

constexpr std::int64_t kNotSent = -1;

struct Gpu {
  const ChunkProgram* program = nullptr;
  std::int32_t step = 0;  // position in the rank's schedule
  ChunkPlay play;
  bool running = false;
  Time begin;       // of the running chunk, or end of the last one
  Time reached;     // own arrival at the collective that is waited for
  Duration waited;  // for peers, in the running chunk
  FifoServer sender;  // its NIC, or its NVLink port for messages inside a node
  std::array<Duration, kTimeCategories> breakdown{};
  OverlapTimes overlap;
};

struct ExpertGroup {
  int arrived = 0;
};

class StepSimulation {
 public:
  StepSimulation(const Scenario& scenario, const PlanSpec& plan_spec, const StepPlan& plan,
                 const Schedule& schedule, SimulationMode mode, StepTrace* trace)
      : scenario_(scenario),
        plan_(plan),
        schedule_(schedule),
        trace_(trace),
        replicas_(mode == SimulationMode::kFull ? scenario.data_parallel() : 1),
        group_size_(mode == SimulationMode::kFull ? plan_spec.ep : 1),
        placement_(scenario.cluster, scenario.data_parallel()),
        gpus_(static_cast<std::size_t>(plan.ranks() * replicas_)),
        groups_(gpus_.size() / static_cast<std::size_t>(group_size_)),
        reduction_missing_(plan.reduction_groups.size()),
        reduction_group_of_(static_cast<std::size_t>(plan.ranks())) {
    for (const ChunkProgram& program : plan.programs)
      most_tasks_ = std::max(most_tasks_, program.tasks.size());
    spans_.resize(gpus_.size() * most_tasks_);
    sent_.assign(gpus_.size() * static_cast<std::size_t>(plan.slots), kNotSent);
    arrived_.resize(sent_.size());
    for (std::size_t g = 0; g < plan.reduction_groups.size(); ++g) {
      reduction_missing_[g] = static_cast<int>(plan.reduction_groups[g].size()) * replicas_;
      for (const int rank : plan.reduction_groups[g])
        reduction_group_of_[static_cast<std::size_t>(rank)] = g;
    }
    played_.resize(static_cast<std::size_t>(plan.ranks()));
    last_rank_.resize(plan.reduction_groups.size());
    senders_.resize(static_cast<std::size_t>(plan.ranks() * plan.slots));
    engine_.reserve(gpus_.size() * 4);
  }

  StepTimes run() {
    for (std::uint32_t gpu = 0; gpu < gpus_.size(); ++gpu) begin_if_ready(gpu);
    engine_.run([this](const Event& event) { handle(event); });
    engine_.assert_drained();
    require_finished();
    return result();
  }

 private:
  [[nodiscard]] int rank_of(std::uint32_t gpu) const { return static_cast<int>(gpu) / replicas_; }
  [[nodiscard]] int replica_of(std::uint32_t gpu) const {
    return static_cast<int>(gpu) % replicas_;
  }
  [[nodiscard]] bool observed(std::uint32_t gpu) const { return replica_of(gpu) == 0; }
  [[nodiscard]] std::size_t slot_index(std::uint32_t gpu, int slot) const {
    return static_cast<std::size_t>(gpu) * static_cast<std::size_t>(plan_.slots) +
           static_cast<std::size_t>(slot);
  }
  [[nodiscard]] const std::vector<PlannedStep>& steps_of(std::uint32_t gpu) const {
    return plan_.steps[static_cast<std::size_t>(rank_of(gpu))];
  }

  void handle(const Event& event) {
    switch (event.kind) {
      case kMessageArrived:
        arrived_[slot_index(event.actor, static_cast<int>(event.argument))] = 1;
        begin_if_ready(event.actor, static_cast<int>(event.argument));
        break;
      case kChunkEnded:
        end_chunk(event.actor);
        break;
      case kCollectiveReached:
        reach_collective(event.actor);
        break;
      case kCollectiveDone:
        finish_collective(event.actor);
        break;
      case kGradientsReduced:
        gradients_reduced(event.actor);
        break;
      case kParametersGathered:
        end_ = std::max(end_, engine_.now());
        break;
      default:
        PIPECAST_ASSERT(false && "unknown event");
    }
  }

  /// @param arrived  slot of the message that has just arrived, if that is why this is called
  void begin_if_ready(std::uint32_t index, std::optional<int> arrived = std::nullopt) {
    Gpu& gpu = gpus_[index];
    const auto& steps = steps_of(index);
    if (gpu.running || gpu.step == static_cast<std::int32_t>(steps.size())) return;
    const PlannedStep& step = steps[static_cast<std::size_t>(gpu.step)];
    for (const int slot : step.needs) {
      if (slot >= 0 && arrived_[slot_index(index, slot)] == 0) return;
    }
    account_wait(index, arrived);
    gpu.program = &plan_.programs[static_cast<std::size_t>(step.program)];
    gpu.running = true;
    gpu.begin = engine_.now();
    gpu.waited = Duration();
    gpu.play.begin(gpu.program->tasks, spans_of(index), engine_.now());
    advance(index);
  }

  /// Splits the idle time before a step: while the last message was under way the transfer is to
  /// blame, before that the schedule.
  void account_wait(std::uint32_t index, std::optional<int> arrived) {
    Gpu& gpu = gpus_[index];
    const Duration wait = engine_.now() - gpu.begin;
    PlayedStep played;
    if (arrived && wait > Duration()) {
      const Time sent(sent_[slot_index(index, *arrived)]);
      const Duration exposed = engine_.now() - std::max(sent, gpu.begin);
      category(gpu, TimeCategory::kCommunicationExposed) += exposed;
      category(gpu, TimeCategory::kBubble) += wait - exposed;
      played.sender = senders_[static_cast<std::size_t>(rank_of(index) * plan_.slots + *arrived)];
      played.under_way = engine_.now() - sent;
    }
    if (observed(index)) played_[static_cast<std::size_t>(rank_of(index))].push_back(played);
  }

  static Duration& category(Gpu& gpu, TimeCategory c) {
    return gpu.breakdown[static_cast<std::size_t>(c)];
  }

  TaskSpan* spans_of(std::uint32_t index) { return &spans_[index * most_tasks_]; }

  /// Plays on to the next collective, whose start other GPUs decide, or to the end of the chunk.
  void advance(std::uint32_t index) {
    const ChunkPlay::Stop stop = gpus_[index].play.advance();
    if (stop.ended) {
      engine_.schedule(stop.when, EventPhase::kRelease, kChunkEnded, index);
    } else {
      engine_.schedule(stop.when, EventPhase::kArbitrate, kCollectiveReached, index);
    }
  }

  void reach_collective(std::uint32_t index) {
    const std::uint32_t group = index / static_cast<std::uint32_t>(group_size_);
    gpus_[index].reached = engine_.now();
    if (++groups_[group].arrived < group_size_) return;
    groups_[group].arrived = 0;
    const Duration transfer = gpus_[index].play.collective().transfer;
    engine_.schedule(engine_.now() + transfer, EventPhase::kRelease, kCollectiveDone, group);
  }

  void finish_collective(std::uint32_t group) {
    const auto size = static_cast<std::uint32_t>(group_size_);
    for (std::uint32_t index = group * size; index < (group + 1) * size; ++index) {
      Gpu& gpu = gpus_[index];
      const Time start = engine_.now() - gpu.play.collective().transfer;
      gpu.waited += start - gpu.reached;
      gpu.play.finish_collective(start, engine_.now());
      advance(index);
    }
  }

  void end_chunk(std::uint32_t index) {
    Gpu& gpu = gpus_[index];
    const PlannedStep& step = steps_of(index)[static_cast<std::size_t>(gpu.step)];
    const Duration span = engine_.now() - gpu.begin;
    category(gpu, step.category) += span;
    account_overlap(gpu, span);
    record_tasks(index);
    if (observed(index)) played_[static_cast<std::size_t>(rank_of(index))].back().span = span;
    if (trace_ != nullptr && observed(index)) {
      const auto& names = schedule_.ranks[static_cast<std::size_t>(rank_of(index))];
      trace_->chunks.push_back({rank_of(index), to_text(names[static_cast<std::size_t>(gpu.step)]),
                                gpu.begin, engine_.now()});
    }
    for (const PlannedSend& send : step.sends) {
      if (send.rank >= 0) send_message(index, send);
    }
    gpu.begin = engine_.now();
    gpu.running = false;
    if (++gpu.step < static_cast<std::int32_t>(steps_of(index).size())) {
      begin_if_ready(index);
    } else {
      finish_passes(index);
    }
  }

  static void account_overlap(Gpu& gpu, Duration span) {
    const Duration idle = span - gpu.play.computing();
    const Duration exposed =
        std::min(gpu.program->communication, std::max(Duration(), idle - gpu.waited));
    gpu.overlap.communication += gpu.program->communication;
    gpu.overlap.exposed += exposed;
    gpu.overlap.hidden += gpu.program->communication - exposed;
    gpu.overlap.waiting_for_peers += gpu.waited;
  }

  void send_message(std::uint32_t from, const PlannedSend& send) {
    const auto to = static_cast<std::uint32_t>(send.rank * replicas_ + replica_of(from));
    const std::size_t slot = slot_index(to, send.slot);
    sent_[slot] = engine_.now().count();
    if (observed(from)) {
      senders_[static_cast<std::size_t>(send.rank * plan_.slots + send.slot)] = {rank_of(from),
                                                                                 gpus_[from].step};
    }
    Time arrival = engine_.now();
    if (to != from) {
      const Distance distance = placement_.between(rank_of(from), send.rank, replica_of(from));
      const Duration service =
          transfer_time(plan_.message, distance, scenario_.cluster, scenario_.calibration);
      arrival = gpus_[from].sender.reserve(engine_.now(), service) +
                hop_latency(distance, scenario_.cluster);
      (distance.same_node ? nvlink_bytes_ : nic_bytes_) += plan_.message;
    }
    engine_.schedule(arrival, EventPhase::kRelease, kMessageArrived, to,
                     static_cast<std::uint64_t>(send.slot));
  }

  // The end of the step: reduce gradients within each group, agree on the norm over all, update,
  // gather.

  void finish_passes(std::uint32_t index) {
    const std::size_t group = reduction_group_of_[static_cast<std::size_t>(rank_of(index))];
    if (--reduction_missing_[group] > 0) return;
    last_rank_[group] = rank_of(index);
    const int rank = plan_.reduction_groups[group].front();
    const Time reduced =
        engine_.now() + plan_.optimizer[static_cast<std::size_t>(rank)].reduce_scatter;
    engine_.schedule(reduced, EventPhase::kRelease, kGradientsReduced,
                     static_cast<std::uint32_t>(group));
    if (trace_ == nullptr) return;
    for (const int member : plan_.reduction_groups[group]) {
      trace_->chunks.push_back({member, "reduce-scatter", engine_.now(), reduced});
    }
  }

  void gradients_reduced(std::uint32_t group) {
    if (++groups_reduced_ < plan_.reduction_groups.size()) return;
    slowest_group_ = group;
    const Time agreed = engine_.now() + plan_.norm_all_reduce;
    for (int rank = 0; rank < plan_.ranks(); ++rank) {
      const OptimizerPlan& optimizer = plan_.optimizer[static_cast<std::size_t>(rank)];
      const Time updated = agreed + optimizer.update;
      engine_.schedule(updated + optimizer.all_gather, EventPhase::kRelease, kParametersGathered,
                       static_cast<std::uint32_t>(rank));
      if (trace_ != nullptr) {
        trace_->chunks.push_back({rank, "AdamW", agreed, updated});
        trace_->chunks.push_back({rank, "all-gather", updated, updated + optimizer.all_gather});
      }
    }
  }

  void record_tasks(std::uint32_t index) {
    if (trace_ == nullptr || !observed(index)) return;
    const std::vector<Task>& tasks = gpus_[index].program->tasks;
    for (std::size_t i = 0; i < tasks.size(); ++i) {
      const TaskSpan& span = spans_of(index)[i];
      if (span.start == span.end) continue;
      const Stream stream = tasks[i].communication ? Stream::kCommunication : Stream::kCompute;
      trace_->streams.push_back({rank_of(index), stream, tasks[i].layer, tasks[i].phase,
                                 tasks[i].collective, span.start, span.end});
    }
  }

  void require_finished() const {
    for (std::uint32_t index = 0; index < gpus_.size(); ++index) {
      const Gpu& gpu = gpus_[index];
      if (gpu.step == static_cast<std::int32_t>(steps_of(index).size())) continue;
      const Step& stuck =
          schedule_
              .ranks[static_cast<std::size_t>(rank_of(index))][static_cast<std::size_t>(gpu.step)];
      throw ImpossiblePlan(
          fmt::format("the schedule deadlocks: pipeline rank {} waits forever before {}",
                      rank_of(index), to_text(stuck)));
    }
  }

  StepTimes result() {
    StepTimes out;
    out.time = end_ - Time();
    out.events = engine_.processed();
    out.simulated_gpus = static_cast<int>(gpus_.size());
    for (int rank = 0; rank < plan_.ranks(); ++rank) out.ranks.push_back(rank_times(rank));
    out.critical_path = critical_path(plan_, played_, last_rank_[slowest_group_]);
    count_links(out);
    return out;
  }

  /// Means over the rank's GPUs; rounding goes to the bubble, so that the sum stays exact.
  RankTimes rank_times(int rank) const {
    RankTimes out{};
    const auto mean = [&](auto member) {
      std::int64_t sum = 0;
      for (int d = 0; d < replicas_; ++d)
        sum += member(gpus_[static_cast<std::size_t>(rank * replicas_ + d)]).count();
      return Duration(sum / replicas_);
    };
    const OptimizerPlan& optimizer = plan_.optimizer[static_cast<std::size_t>(rank)];
    Duration sum;
    for (std::size_t c = 0; c < kTimeCategories; ++c) {
      out.breakdown[c] = mean([c](const Gpu& gpu) { return gpu.breakdown[c]; });
      if (c == static_cast<std::size_t>(TimeCategory::kOptimizer)) {
        out.breakdown[c] = optimizer.reduce_scatter + plan_.norm_all_reduce + optimizer.update +
                           optimizer.all_gather;
      }
      sum += out.breakdown[c];
    }
    out.breakdown[static_cast<std::size_t>(TimeCategory::kBubble)] += (end_ - Time()) - sum;
    out.overlap.communication = mean([](const Gpu& gpu) { return gpu.overlap.communication; });
    out.overlap.hidden = mean([](const Gpu& gpu) { return gpu.overlap.hidden; });
    out.overlap.exposed = mean([](const Gpu& gpu) { return gpu.overlap.exposed; });
    out.overlap.waiting_for_peers =
        mean([](const Gpu& gpu) { return gpu.overlap.waiting_for_peers; });
    return out;
  }

  void count_links(StepTimes& out) const {
    Bytes nic = nic_bytes_;
    Bytes nvlink = nvlink_bytes_;
    for (int rank = 0; rank < plan_.ranks(); ++rank) {
      const OptimizerPlan& optimizer = plan_.optimizer[static_cast<std::size_t>(rank)];
      Bytes rank_nic = optimizer.nic_bytes;
      Bytes rank_nvlink = optimizer.nvlink_bytes;
      for (const PlannedStep& step : plan_.steps[static_cast<std::size_t>(rank)]) {
        rank_nic += plan_.programs[static_cast<std::size_t>(step.program)].nic_bytes;
        rank_nvlink += plan_.programs[static_cast<std::size_t>(step.program)].nvlink_bytes;
      }
      nic += rank_nic * replicas_;
      nvlink += rank_nvlink * replicas_;
    }
    const double gpu_seconds = to_seconds(out.time) * static_cast<double>(gpus_.size());
    const auto use = [&](Bytes bytes, Bandwidth reached) {
      return LinkUse{bytes, static_cast<double>(bytes.count()) / reached.count() / gpu_seconds};
    };
    out.nic = use(nic, reached_nic(scenario_.cluster, scenario_.calibration));
    out.nvlink = use(nvlink, reached_nvlink(scenario_.cluster, scenario_.calibration));
  }

  const Scenario& scenario_;
  const StepPlan& plan_;
  const Schedule& schedule_;
  StepTrace* trace_;
  int replicas_;
  int group_size_;
  Placement placement_;
  Engine engine_;
  std::vector<Gpu> gpus_;
  std::vector<ExpertGroup> groups_;
  std::size_t most_tasks_ = 0;
  std::vector<TaskSpan> spans_;        // [gpu][task] of the running chunks
  std::vector<std::int64_t> sent_;     // [gpu][slot] time at which the sender's chunk ended
  std::vector<std::uint8_t> arrived_;  // [gpu][slot]
  std::vector<int>
      reduction_missing_;  // GPUs that have not finished their passes, by reduction group
  std::vector<std::size_t> reduction_group_of_;
  std::size_t groups_reduced_ = 0;
  Time end_;
  Bytes nic_bytes_;  // of messages
  Bytes nvlink_bytes_;
  std::vector<std::vector<PlayedStep>> played_;  // [rank][step] of the first replica
  std::vector<StepId> senders_;                  // [rank][slot] of the first replica
  std::vector<int> last_rank_;       // [reduction group] whose GPU finished its passes last
  std::uint32_t slowest_group_ = 0;  // whose gradients were reduced last
};

}  // namespace

StepTimes simulate_step(const Scenario& scenario, const PlanSpec& plan_spec, const StepPlan& plan,
                        const Schedule& schedule, SimulationMode mode, StepTrace* trace) {
  return StepSimulation(scenario, plan_spec, plan, schedule, mode, trace).run();
}

}  // namespace pipecast
