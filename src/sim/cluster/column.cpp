#include "sim/cluster/column.hpp"

#include <algorithm>
#include <optional>

#include "sim/cluster/nic_sharing.hpp"
#include "sim/engine/engine.hpp"
#include "sim/engine/resource.hpp"

namespace pipecast {

namespace {

enum EventKind : std::uint32_t {
  kMessageSent,     // actor: sending GPU; argument: version of the message
  kMessageArrived,  // actor: receiving GPU; argument: slot
  kChunkEnded,      // actor: GPU
  kExchangeBegins,  // actor: pipeline rank
  kExchangeDone,    // actor: pipeline rank; argument: version of the exchange
};

constexpr Time kNotSent{-1};

/// A message that waits for its turn on the sender's NIC.
struct Queued {
  std::uint32_t to = 0;
  int slot = 0;
};

struct Gpu {
  const ChunkProgram* program = nullptr;
  std::int32_t step = 0;  // position in the rank's schedule
  ChunkPlay play;
  bool running = false;
  Time begin;                 // of the running chunk, or end of the last one
  Time reached;               // own arrival at the collective that is waited for
  Duration waited;            // for peers, in the running chunk
  Duration moved;             // transfers of the running chunk
  FifoServer local;           // its NVLink port, for messages inside a node
  std::vector<Queued> queue;  // for its NIC, from `queue_begin`; the first one is under way
  std::size_t queue_begin = 0;
};

/// The expert-parallel group of one pipeline rank.
struct Group {
  std::uint32_t arrived = 0;  // GPUs whose arrival at the next exchange is known
  std::uint32_t last = 0;     // of those, the GPU that arrives last
  bool exchanging = false;
  double left = 0;  // picoseconds of the exchange at its own pace
  double rate = 1;  // of that pace
  double use = 0;   // of the NICs at that pace
  Time start;
  Time since;  // when `left` was true
  std::uint32_t version = 0;
};

class Column {
 public:
  Column(const Scenario& scenario, const PlanSpec& plan_spec, const StepPlan& plan,
         const Schedule& schedule, const StepConditions& conditions, int column, StepTrace* trace)
      : scenario_(scenario),
        plan_(plan),
        schedule_(schedule),
        trace_(trace),
        conditions_(
            std::make_unique<const GpuConditions>(scenario, plan_spec, plan, conditions, column)),
        group_size_(static_cast<std::uint32_t>(conditions_->group_size())),
        first_replica_(column * conditions_->group_size()),
        placement_(scenario.cluster, scenario.data_parallel()),
        gpus_(static_cast<std::size_t>(plan.ranks()) * group_size_),
        groups_(static_cast<std::size_t>(plan.ranks())),
        sharing_(gpus_.size(), group_size_, scenario.cluster.nic.message_share) {
    for (const ChunkProgram& program : plan.programs)
      most_tasks_ = std::max(most_tasks_, program.tasks.size());
    for (const auto& stage : plan.moe_layer) most_slots_ = std::max(most_slots_, 2 * stage.size());
    spans_.resize(gpus_.size() * most_tasks_);
    loads_.resize(gpus_.size() * most_slots_);
    sent_.assign(gpus_.size() * static_cast<std::size_t>(plan.slots), kNotSent);
    arrived_.resize(sent_.size());
    senders_.resize(static_cast<std::size_t>(plan.ranks() * plan.slots));
    out_.gpus.resize(gpus_.size());
    out_.record.steps.resize(gpus_.size());
    out_.record.exchanges.resize(groups_.size());
    for (std::uint32_t gpu = 0; gpu < gpus_.size(); ++gpu) {
      out_.record.steps[gpu].reserve(steps_of(gpu).size());
    }
    engine_.reserve(gpus_.size() * 4);
  }

  ColumnTimes run() {
    for (std::uint32_t gpu = 0; gpu < gpus_.size(); ++gpu) begin_if_ready(gpu);
    engine_.run([this](const Event& event) { handle(event); });
    engine_.assert_drained();
    require_finished();
    assert_conserved();
    out_.events = engine_.processed();
    out_.conditions = std::move(conditions_);
    return std::move(out_);
  }

 private:
  [[nodiscard]] int rank_of(std::uint32_t gpu) const { return static_cast<int>(gpu / group_size_); }
  [[nodiscard]] int index_of(std::uint32_t gpu) const {
    return static_cast<int>(gpu % group_size_);
  }
  [[nodiscard]] bool traced(std::uint32_t gpu) const {
    return trace_ != nullptr && index_of(gpu) == 0;
  }
  [[nodiscard]] std::size_t slot_index(std::uint32_t gpu, int slot) const {
    return static_cast<std::size_t>(gpu) * static_cast<std::size_t>(plan_.slots) +
           static_cast<std::size_t>(slot);
  }
  [[nodiscard]] const std::vector<PlannedStep>& steps_of(std::uint32_t gpu) const {
    return plan_.steps[static_cast<std::size_t>(rank_of(gpu))];
  }
  [[nodiscard]] const PlannedStep& step_of(std::uint32_t gpu) const {
    return steps_of(gpu)[static_cast<std::size_t>(gpus_[gpu].step)];
  }
  TaskSpan* spans_of(std::uint32_t gpu) { return &spans_[gpu * most_tasks_]; }

  /// Tells the engine when a message will be sent at its present rate.
  auto reschedule() {
    return [this](std::uint32_t from, Time when) {
      engine_.schedule(when, EventPhase::kRelease, kMessageSent, from,
                       sharing_.message(from).version);
    };
  }

  void handle(const Event& event) {
    switch (event.kind) {
      case kMessageSent:
        message_sent(event.actor, static_cast<std::uint32_t>(event.argument));
        break;
      case kMessageArrived:
        arrived_[slot_index(event.actor, static_cast<int>(event.argument))] = 1;
        begin_if_ready(event.actor, static_cast<int>(event.argument));
        break;
      case kChunkEnded:
        end_chunk(event.actor);
        break;
      case kExchangeBegins:
        begin_exchange(event.actor);
        break;
      case kExchangeDone:
        finish_exchange(event.actor, static_cast<std::uint32_t>(event.argument));
        break;
      default:
        PIPECAST_ASSERT(false && "unknown event");
    }
  }

  /// @param arrived  slot of the message that has just arrived, if that is why this is called
  void begin_if_ready(std::uint32_t index, std::optional<int> arrived = std::nullopt) {
    Gpu& gpu = gpus_[index];
    if (gpu.running || gpu.step == static_cast<std::int32_t>(steps_of(index).size())) return;
    const PlannedStep& step = step_of(index);
    for (const int slot : step.needs) {
      if (slot >= 0 && arrived_[slot_index(index, slot)] == 0) return;
    }
    account_wait(index, arrived);
    gpu.program = &plan_.programs[static_cast<std::size_t>(step.program)];
    gpu.running = true;
    gpu.begin = engine_.now();
    gpu.waited = gpu.moved = Duration();
    gpu.play.begin(gpu.program->tasks, spans_of(index), engine_.now(),
                   conditions_->chunk(rank_of(index), index_of(index), gpu.step,
                                      &loads_[index * most_slots_]));
    advance(index);
  }

  /// Splits the idle time before a step: while the last message was under way the transfer is to
  /// blame, before that the schedule.
  void account_wait(std::uint32_t index, std::optional<int> arrived) {
    const Gpu& gpu = gpus_[index];
    const Duration wait = engine_.now() - gpu.begin;
    PlayedStep played{.begin = engine_.now(), .end = {}, .under_way = {}};
    if (arrived && wait > Duration()) {
      const Time sent = sent_[slot_index(index, *arrived)];
      const Duration exposed = engine_.now() - std::max(sent, gpu.begin);
      category(index, TimeCategory::kCommunicationExposed) += exposed;
      category(index, TimeCategory::kBubble) += wait - exposed;
      const Sender& sender =
          senders_[static_cast<std::size_t>(rank_of(index) * plan_.slots + *arrived)];
      played.sender_rank = sender.rank;
      played.sender_step = sender.step;
      played.under_way = engine_.now() - sent;
    }
    out_.record.steps[index].push_back(played);
  }

  Duration& category(std::uint32_t gpu, TimeCategory c) {
    return out_.gpus[gpu].breakdown[static_cast<std::size_t>(c)];
  }

  /// Plays on to the next collective, whose start other GPUs decide, or to the end of the chunk.
  void advance(std::uint32_t index) {
    ChunkPlay& play = gpus_[index].play;
    const ChunkPlay::Stop stop = play.advance();
    if (stop.ended) {
      engine_.schedule(stop.when, EventPhase::kRelease, kChunkEnded, index);
    } else {
      reach_exchange(index, stop.when + conditions_->delay(play.random()));
    }
  }

  /// Nothing can change a GPU's arrival any more: only the last of the group's is an event.
  void reach_exchange(std::uint32_t index, Time when) {
    const auto rank = static_cast<std::uint32_t>(rank_of(index));
    Group& group = groups_[rank];
    gpus_[index].reached = when;
    if (group.arrived == 0 || when > gpus_[group.last].reached) group.last = index;
    if (++group.arrived < group_size_) return;
    group.arrived = 0;
    engine_.schedule(gpus_[group.last].reached, EventPhase::kArbitrate, kExchangeBegins, rank);
  }

  void begin_exchange(std::uint32_t rank) {
    Group& group = groups_[rank];
    const GpuConditions::Exchange exchange =
        conditions_->exchange(gpus_[group.last].play.collective(), step_of(group.last));
    group.exchanging = true;
    group.left = static_cast<double>(exchange.time.count());
    group.use = exchange.nic_use;
    group.rate = 0;
    group.start = group.since = engine_.now();
    out_.record.exchanges[rank].push_back(
        {.start = engine_.now(), .end = {}, .last = index_of(group.last)});
    set_exchange_rate(rank);
  }

  void set_exchange_rate(std::uint32_t rank) {
    Group& group = groups_[rank];
    if (!group.exchanging) return;
    const double rate = sharing_.exchange_rate(rank, group.use);
    if (rate == group.rate) return;
    group.left -= static_cast<double>((engine_.now() - group.since).count()) * group.rate;
    group.since = engine_.now();
    group.rate = rate;
    ++group.version;
    engine_.schedule(engine_.now() + duration_from_picoseconds(std::max(0.0, group.left) / rate),
                     EventPhase::kRelease, kExchangeDone, rank, group.version);
    sharing_.set_use(rank, group.use * rate, engine_.now(), reschedule());
  }

  void finish_exchange(std::uint32_t rank, std::uint32_t version) {
    Group& group = groups_[rank];
    if (!group.exchanging || version != group.version) return;  // its pace has changed since
    group.exchanging = false;
    sharing_.set_use(rank, 0, engine_.now(), reschedule());
    out_.record.exchanges[rank].back().end = engine_.now();
    const std::uint32_t first = rank * group_size_;
    for (std::uint32_t index = first; index < first + group_size_; ++index) {
      Gpu& gpu = gpus_[index];
      gpu.waited += group.start - gpu.reached;
      gpu.moved += engine_.now() - group.start;
      gpu.play.finish_collective(group.start, engine_.now());
      advance(index);
    }
  }

  void end_chunk(std::uint32_t index) {
    Gpu& gpu = gpus_[index];
    const PlannedStep& step = step_of(index);
    const Duration span = engine_.now() - gpu.begin;
    category(index, step.category) += span;
    account_overlap(index, span);
    out_.record.steps[index].back().end = engine_.now();
    if (traced(index)) trace_chunk(index);
    for (const PlannedSend& send : step.sends) {
      if (send.rank >= 0) send_message(index, send);
    }
    gpu.begin = engine_.now();
    gpu.running = false;
    if (++gpu.step < static_cast<std::int32_t>(steps_of(index).size())) {
      begin_if_ready(index);
    } else {
      out_.gpus[index].finished = engine_.now();
    }
  }

  void account_overlap(std::uint32_t index, Duration span) {
    const Gpu& gpu = gpus_[index];
    OverlapTimes& overlap = out_.gpus[index].overlap;
    const Duration idle = span - gpu.play.computing();
    const Duration moved = gpu.moved + gpu.program->moves;
    const Duration exposed = std::min(moved, std::max(Duration(), idle - gpu.waited));
    overlap.communication += moved;
    overlap.exposed += exposed;
    overlap.hidden += moved - exposed;
    overlap.waiting_for_peers += gpu.waited;
  }

  void trace_chunk(std::uint32_t index) {
    const int rank = rank_of(index);
    const auto& names = schedule_.ranks[static_cast<std::size_t>(rank)];
    trace_->chunks.push_back({rank, to_text(names[static_cast<std::size_t>(gpus_[index].step)]),
                              gpus_[index].begin, engine_.now()});
    const std::vector<Task>& tasks = gpus_[index].program->tasks;
    for (std::size_t i = 0; i < tasks.size(); ++i) {
      const TaskSpan& span = spans_of(index)[i];
      if (span.start == span.end) continue;
      const Stream stream = tasks[i].communication ? Stream::kCommunication : Stream::kCompute;
      trace_->streams.push_back({rank, stream, tasks[i].layer, tasks[i].phase, tasks[i].collective,
                                 span.start, span.end, tasks[i].move});
    }
  }

  // Messages to other pipeline ranks.

  void send_message(std::uint32_t from, const PlannedSend& send) {
    const auto to = static_cast<std::uint32_t>(send.rank) * group_size_ +
                    static_cast<std::uint32_t>(index_of(from));
    sent_[slot_index(to, send.slot)] = engine_.now();
    senders_[static_cast<std::size_t>(send.rank * plan_.slots + send.slot)] = {rank_of(from),
                                                                               gpus_[from].step};
    const Distance distance = distance_between(from, to);
    if (distance.same_node) {
      const Time sent = gpus_[from].local.reserve(engine_.now(), time_alone(distance));
      schedule_arrival(to, send.slot, sent + hop_latency(distance, scenario_.cluster));
      out_.nvlink_bytes += plan_.message;
      return;
    }
    out_.nic_bytes += plan_.message;
    Gpu& gpu = gpus_[from];
    gpu.queue.push_back({to, send.slot});
    if (gpu.queue.size() - gpu.queue_begin == 1) start_message(from);
  }

  [[nodiscard]] Distance distance_between(std::uint32_t from, std::uint32_t to) const {
    return placement_.between(rank_of(from), rank_of(to), first_replica_ + index_of(from));
  }
  [[nodiscard]] Duration time_alone(const Distance& distance) const {
    return transfer_time(plan_.message, distance, scenario_.cluster, scenario_.calibration);
  }
  void schedule_arrival(std::uint32_t to, int slot, Time when) {
    engine_.schedule(when, EventPhase::kRelease, kMessageArrived, to,
                     static_cast<std::uint64_t>(slot));
  }
  void start_message(std::uint32_t from) {
    const Queued& next = gpus_[from].queue[gpus_[from].queue_begin];
    sharing_.start(from, next.to, time_alone({}), engine_.now(), reschedule());
    set_exchange_rate(from / group_size_);
    set_exchange_rate(next.to / group_size_);
  }

  void message_sent(std::uint32_t from, std::uint32_t version) {
    const NicSharing::Message& message = sharing_.message(from);
    if (!message.under_way || message.version != version) return;  // its rate has changed since
    Gpu& gpu = gpus_[from];
    const Queued done = gpu.queue[gpu.queue_begin];
    sharing_.finish(from, engine_.now(), reschedule());
    schedule_arrival(
        done.to, done.slot,
        engine_.now() + hop_latency(distance_between(from, done.to), scenario_.cluster));
    if (++gpu.queue_begin < gpu.queue.size()) {
      start_message(from);
    } else {
      gpu.queue.clear();
      gpu.queue_begin = 0;
    }
    set_exchange_rate(from / group_size_);
    set_exchange_rate(done.to / group_size_);
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

  /// What was sent has arrived, and nobody waits for an exchange.
  void assert_conserved() const {
    for (std::size_t slot = 0; slot < sent_.size(); ++slot) {
      PIPECAST_ASSERT((sent_[slot] != kNotSent) == (arrived_[slot] != 0));
    }
    for (const Gpu& gpu : gpus_) PIPECAST_ASSERT(gpu.queue.empty() && !gpu.running);
    for (const Group& group : groups_) PIPECAST_ASSERT(group.arrived == 0 && !group.exchanging);
  }

  struct Sender {
    std::int32_t rank = -1;
    std::int32_t step = 0;
  };

  const Scenario& scenario_;
  const StepPlan& plan_;
  const Schedule& schedule_;
  StepTrace* trace_;
  std::unique_ptr<const GpuConditions> conditions_;
  std::uint32_t group_size_;
  int first_replica_;
  Placement placement_;
  Engine engine_;
  std::vector<Gpu> gpus_;
  std::vector<Group> groups_;
  NicSharing sharing_;
  std::size_t most_tasks_ = 0;
  std::size_t most_slots_ = 1;
  std::vector<TaskSpan> spans_;        // [gpu][task] of the running chunks
  std::vector<TaskLoad> loads_;        // [gpu][slot] of the running chunks
  std::vector<Time> sent_;             // [gpu][slot] time at which the sender's chunk ended
  std::vector<std::uint8_t> arrived_;  // [gpu][slot]
  std::vector<Sender> senders_;        // [rank][slot], the same for all replicas
  ColumnTimes out_;
};

}  // namespace

ColumnTimes simulate_column(const Scenario& scenario, const PlanSpec& plan_spec,
                            const StepPlan& plan, const Schedule& schedule,
                            const StepConditions& conditions, int column, StepTrace* trace) {
  return Column(scenario, plan_spec, plan, schedule, conditions, column, trace).run();
}

}  // namespace pipecast
