#include "sim/cluster/step_memory.hpp"

#include <algorithm>
#include <cmath>
#include <optional>
#include <utility>

#include "base/assert.hpp"
#include "model/memory/stored_weights.hpp"

namespace pipecast {

namespace {

using Layers = std::vector<LayerKind>;

bool is_forward(const ChunkPass& pass) { return pass.pass == Pass::kForward; }

}  // namespace

/// When the bundles of one kind of chunk come and go.
class StepMemory::Profile {
 public:
  /// @param trains  false: a forward frees at its end what it would keep
  Profile(const ChunkProgram& program, const Step& step, const Layers& first, const Layers& second,
          const PlanSpec& plan, bool trains)
      : program_(program), plan_(plan), trains_(trains), spans_(play_alone(program.tasks)) {
    add_pass(step.first, 0, 0, first.size());
    if (step.overlapped) add_pass(step.second, 1, first.size(), second.size());
    // At one moment what goes makes room for what comes.
    std::stable_sort(changes_.begin(), changes_.end(), [](const Change& a, const Change& b) {
      return a.when != b.when ? a.when < b.when : a.comes < b.comes;
    });
  }

  std::vector<Change> take() { return std::move(changes_); }

 private:
  struct PhaseSpan {
    double start = 0;
    double end = 0;
  };
  using PhaseSpans = std::array<PhaseSpan, kPhases>;
  /// Of a layer's weights and gradients between shards.
  struct Moves {
    std::optional<PhaseSpan> gather;
    std::optional<PhaseSpan> reduction;
  };

  void add_pass(const ChunkPass& pass, int which, std::size_t first_slot, std::size_t layers) {
    for (std::size_t layer = 0; layer < layers; ++layer) {
      layer_ = static_cast<std::int16_t>(layer);
      pass_ = static_cast<std::int16_t>(which);
      const PhaseSpans spans = phase_spans(static_cast<int>(first_slot + layer));
      moves_ = moves_of(static_cast<int>(first_slot + layer));
      if (is_forward(pass)) {
        forward(spans);
        continue;
      }
      if (pass.pass != Pass::kBackwardWeight) backward_input(spans);
      if (pass.pass != Pass::kBackwardInput) backward_weight(spans);
    }
  }

  void forward(const PhaseSpans& at) {
    take(Bundle::kAttentionKept, of(at, Phase::kAttentionForward).start);
    take(Bundle::kMlpKept, of(at, Phase::kMlpForward).start);
    forward_transients(at);
    if (moves_.gather) {
      hold(Bundle::kGatheredWeights, moves_.gather->start, of(at, Phase::kMlpForward).end);
    }
    if (trains_) return;
    const double end = of(at, Phase::kCombineForward).end;
    release(Bundle::kAttentionKept, end);
    release(Bundle::kMlpKept, end);
  }

  void forward_transients(const PhaseSpans& at) {
    hold(Bundle::kAttentionForwardWork, of(at, Phase::kAttentionForward));
    hold(Bundle::kMlpForwardWork, of(at, Phase::kMlpForward));
    hold(Bundle::kDispatched, of(at, Phase::kDispatchForward).start,
         of(at, Phase::kMlpForward).end);
    hold(Bundle::kCombining, of(at, Phase::kMlpForward).start, of(at, Phase::kCombineForward).end);
  }

  void backward_input(const PhaseSpans& at) {
    const PhaseSpan mlp = of(at, Phase::kMlpBackward);
    const PhaseSpan attention = of(at, Phase::kAttentionBackward);
    if (plan_.recompute.full) {
      forward_transients(at);
      hold(Bundle::kAttentionReplayed, of(at, Phase::kAttentionForward).start, attention.end);
      hold(Bundle::kMlpReplayed, of(at, Phase::kMlpForward).start, mlp.end);
    }
    if (moves_.gather) hold(Bundle::kGatheredWeights, moves_.gather->start, attention.end);
    hold(Bundle::kDispatchedGradient, of(at, Phase::kCombineBackward).start, mlp.end);
    hold(Bundle::kMlpBackwardWork, mlp);
    hold(Bundle::kCombiningGradient, mlp.start, of(at, Phase::kDispatchBackward).end);
    hold(Bundle::kAttentionBackwardWork, attention);
    release(Bundle::kMlpKept, mlp.end);
    take(Bundle::kMlpOperands, mlp.end);
    release(Bundle::kAttentionKept, attention.end);
    take(Bundle::kAttentionOperands, attention.end);
  }

  void backward_weight(const PhaseSpans& at) {
    const PhaseSpan mlp = of(at, Phase::kMlpWeight);
    const PhaseSpan attention = of(at, Phase::kAttentionWeight);
    hold(Bundle::kMlpWeightWork, mlp);
    hold(Bundle::kAttentionWeightWork, attention);
    if (moves_.reduction) {
      hold(Bundle::kWholeGradients, std::min(mlp.start, attention.start), moves_.reduction->end);
    }
    release(Bundle::kMlpOperands, mlp.end);
    release(Bundle::kAttentionOperands, attention.end);
  }

  static const PhaseSpan& of(const PhaseSpans& spans, Phase phase) {
    return spans[static_cast<std::size_t>(phase)];
  }

  /// Parts of the chunk's time. A phase without kernels stands where the layer's next one begins,
  /// or at the chunk's end.
  [[nodiscard]] PhaseSpans phase_spans(int slot) const {
    constexpr std::array kOrder = {Phase::kAttentionForward, Phase::kDispatchForward,
                                   Phase::kMlpForward,       Phase::kCombineForward,
                                   Phase::kCombineBackward,  Phase::kMlpBackward,
                                   Phase::kDispatchBackward, Phase::kAttentionBackward,
                                   Phase::kMlpWeight,        Phase::kAttentionWeight};
    std::array<std::optional<PhaseSpan>, kPhases> known;
    for (std::size_t i = 0; i < spans_.size(); ++i) {
      const Task& task = program_.tasks[i];
      if (task.slot != slot || task.move != ShardMove::kNone) continue;
      const PhaseSpan span = span_of(i);
      std::optional<PhaseSpan>& phase = known[static_cast<std::size_t>(task.phase)];
      phase = phase ? PhaseSpan{std::min(phase->start, span.start), std::max(phase->end, span.end)}
                    : span;
    }
    PhaseSpans out;
    double next = 1;
    for (std::size_t i = kOrder.size(); i-- > 0;) {
      const auto phase = static_cast<std::size_t>(kOrder[i]);
      out[phase] = known[phase].value_or(PhaseSpan{next, next});
      next = out[phase].start;
    }
    return out;
  }

  [[nodiscard]] Moves moves_of(int slot) const {
    Moves out;
    for (std::size_t i = 0; i < spans_.size(); ++i) {
      const Task& task = program_.tasks[i];
      if (task.slot != slot) continue;
      if (task.move == ShardMove::kAllGather) out.gather = span_of(i);
      if (task.move == ShardMove::kReduceScatter) out.reduction = span_of(i);
    }
    return out;
  }

  /// When a task runs, in parts of the chunk's time.
  [[nodiscard]] PhaseSpan span_of(std::size_t task) const {
    const auto whole = static_cast<double>(std::max<std::int64_t>(1, program_.alone.count()));
    return {static_cast<double>((spans_[task].start - Time()).count()) / whole,
            static_cast<double>((spans_[task].end - Time()).count()) / whole};
  }

  void take(Bundle bundle, double when) { changes_.push_back({when, pass_, layer_, bundle, true}); }
  void release(Bundle bundle, double when) {
    changes_.push_back({when, pass_, layer_, bundle, false});
  }
  void hold(Bundle bundle, double from, double to) {
    if (from >= to) return;
    take(bundle, from);
    release(bundle, to);
  }
  void hold(Bundle bundle, const PhaseSpan& span) { hold(bundle, span.start, span.end); }

  const ChunkProgram& program_;
  const PlanSpec& plan_;
  bool trains_;
  std::vector<TaskSpan> spans_;
  Moves moves_;  // of the layer that is looked at
  std::int16_t pass_ = 0;
  std::int16_t layer_ = 0;
  std::vector<Change> changes_;
};

/// Plays one rank's step.
class StepMemory::Player {
 public:
  Player(const StepMemory& memory, const Rank& rank)
      : memory_(memory), rank_(rank), totals_(rank.base), total_(rank.base.total()) {
    for (const auto& lane : rank.lanes) {
      first_.push_back(live_.size());
      const std::size_t microbatches = lane.front().by_microbatch.size();
      live_.resize(live_.size() + lane.size() * microbatches * kBundles);
    }
  }

  /// Calls function(moment) at the beginning and after every change, until it returns false.
  template <class Function>
  void run(Function&& function) {
    if (!function(Moment{})) return;
    for (int i = 0; i < static_cast<int>(rank_.chunks.size()); ++i) {
      const PlayedChunk& chunk = rank_.chunks[static_cast<std::size_t>(i)];
      const auto& changes = memory_.profiles_[static_cast<std::size_t>(chunk.program)];
      for (int c = 0; c < static_cast<int>(changes.size()); ++c) {
        apply(chunk, changes[static_cast<std::size_t>(c)]);
        if (!function(Moment{i, c})) return;
      }
    }
    for (const int count : live_) PIPECAST_ASSERT(count == 0);
    PIPECAST_ASSERT(totals_ == rank_.base);
    if (rank_.gathered == Bytes()) return;
    add(MemoryCategory::kCommunication, rank_.gathered);
    if (!function(Moment{-1, 0})) return;
    add(MemoryCategory::kCommunication, Bytes() - rank_.gathered);
    function(Moment{-1, 1});
  }

  /// When a moment is in the simulated step.
  [[nodiscard]] Time time_of(const Moment& moment) const {
    if (moment.change < 0) return {};
    if (moment.step < 0) {
      return moment.change == 0 ? rank_.spans.gather.start : rank_.spans.gather.end;
    }
    const auto step = static_cast<std::size_t>(moment.step);
    if (step >= rank_.spans.steps.size()) return {};
    const TaskSpan& span = rank_.spans.steps[step];
    const auto& changes = memory_.profiles_[static_cast<std::size_t>(rank_.chunks[step].program)];
    const double part = changes[static_cast<std::size_t>(moment.change)].when;
    return span.start +
           Duration(std::llround(static_cast<double>((span.end - span.start).count()) * part));
  }

  [[nodiscard]] const MemoryTotals& totals() const { return totals_; }
  [[nodiscard]] Bytes total() const { return total_; }
  /// How many of each bundle are there, by lane, layer, micro-batch, bundle.
  [[nodiscard]] const std::vector<int>& live() const { return live_; }

 private:
  void apply(const PlayedChunk& chunk, const Change& change) {
    const auto pass = static_cast<std::size_t>(change.pass);
    const auto lane = static_cast<std::size_t>(chunk.lanes[pass]);
    const auto layer = static_cast<std::size_t>(change.layer);
    const auto& by_microbatch = rank_.lanes[lane][layer].by_microbatch;
    const std::size_t which =
        static_cast<std::size_t>(chunk.microbatches[pass]) % by_microbatch.size();
    int& count = live_[first_[lane] + (layer * by_microbatch.size() + which) * kBundles +
                       static_cast<std::size_t>(change.bundle)];
    const BundleMemory& bundle = by_microbatch[which]->at(change.bundle);
    const std::int64_t sign = change.comes ? 1 : -1;
    count += static_cast<int>(sign);
    PIPECAST_ASSERT(count >= 0);
    add(category_of(change.bundle), sign * bundle.bytes);
    add(MemoryCategory::kWorkspace, sign * bundle.rounding);
  }

  void add(MemoryCategory category, Bytes bytes) {
    totals_.add(category, bytes);
    total_ += bytes;
  }

  const StepMemory& memory_;
  const Rank& rank_;
  MemoryTotals totals_;
  Bytes total_;
  std::vector<std::size_t> first_;  // [lane]
  std::vector<int> live_;
};

namespace {

/// The loads that a layer's share of rows makes of the balanced one. Received tokens grow with
/// rows, up to all tokens of the group.
LayerLoad scaled(LayerLoad load, double share) {
  const auto times = [share](std::int64_t count) {
    return static_cast<std::int64_t>(std::llround(static_cast<double>(count) * share));
  };
  load.routed_tokens = times(load.routed_tokens);
  load.received_tokens = std::min(times(load.received_tokens), load.tokens * load.ep);
  return load;
}

/// At the step's end: parameters in the format in which they travel, where the products read
/// another one and the shards are of nothing smaller than whole stages.
Bytes gather_buffer(const PlanSpec& plan, const PersistentMemory& persistent, bool trains) {
  const bool gathers = trains && (plan.zero_stage == 1 || plan.zero_stage == 2);
  if (!gathers || plan.precision.parameter_gather == plan.precision.gemm) return {};
  return plain_bytes(plan.precision.parameter_gather, persistent.parameters);
}

}  // namespace

RowShares row_shares(const Router& router, const StepPlan& step, const Schedule& schedule,
                     int groups, int microbatches, const ForEach& for_each) {
  const auto drawn = static_cast<std::size_t>(microbatches);
  RowShares out(schedule.ranks.size(),
                std::vector<std::vector<double>>(static_cast<std::size_t>(step.moe_layers),
                                                 std::vector<double>(drawn, 1.0)));
  const GroupLoad& even = router.balanced();
  std::vector<double> most(schedule.ranks.size(), 0);
  for (int group = 0; group < groups; ++group) {
    // Rows of a GPU over the balanced number, [layer][micro-batch][GPU].
    std::vector<std::vector<std::vector<float>>> rows(static_cast<std::size_t>(step.moe_layers));
    const auto draw = [&](std::size_t layer) {
      for (int microbatch = 0; microbatch < microbatches; ++microbatch) {
        auto& of_gpus =
            rows[layer].emplace_back(router.draw(group, static_cast<int>(layer), microbatch).rows);
        for (std::size_t gpu = 0; gpu < of_gpus.size(); ++gpu) of_gpus[gpu] /= even.rows[gpu];
      }
    };
    if (for_each) {
      for_each(rows.size(), draw);
    } else {
      for (std::size_t layer = 0; layer < rows.size(); ++layer) draw(layer);
    }
    for (std::size_t rank = 0; rank < schedule.ranks.size(); ++rank) {
      std::vector<std::size_t> layers;
      for (const std::vector<int>& stages : schedule.stage_of) {
        for (const int layer : step.moe_layer[static_cast<std::size_t>(stages[rank])]) {
          if (layer >= 0) layers.push_back(static_cast<std::size_t>(layer));
        }
      }
      for (std::size_t gpu = 0; gpu < even.rows.size(); ++gpu) {
        double sum = 0;
        for (const std::size_t layer : layers) {
          for (std::size_t m = 0; m < drawn; ++m) sum += static_cast<double>(rows[layer][m][gpu]);
        }
        if (sum <= most[rank]) continue;
        most[rank] = sum;
        for (const std::size_t layer : layers) {
          for (std::size_t m = 0; m < drawn; ++m) {
            out[rank][layer][m] = static_cast<double>(rows[layer][m][gpu]);
          }
        }
      }
    }
  }
  return out;
}

RowShares uniform_row_shares(double share, const StepPlan& step) {
  return RowShares(static_cast<std::size_t>(step.ranks()),
                   std::vector<std::vector<double>>(static_cast<std::size_t>(step.moe_layers),
                                                    std::vector<double>(1, share)));
}

StepMemory::StepMemory(const Scenario& scenario, const PlanSpec& plan, const Schedule& schedule,
                       const StepPlan& step, const RowShares& shares, std::vector<RankSpans> spans)
    : gathered_as_(plan.precision.parameter_gather) {
  const bool trains = has_backward(schedule);
  const LayerLoad balanced = balanced_load(scenario.model, plan, scenario.recipe.seq_length);
  const auto layer_at = [&](LayerKind kind, double share) {
    constexpr double kParts = 64;
    const auto parts = static_cast<int>(std::lround(share * kParts));
    const auto [it, fresh] = layers_.try_emplace({kind, parts});
    if (fresh) {
      it->second = layer_memory(scenario.model, plan, kind, scaled(balanced, parts / kParts));
    }
    return &it->second;
  };
  // As many for every layer of a rank, so that micro-batches count alike.
  const std::size_t drawn = shares.empty() || step.moe_layers == 0 ? 1 : shares[0][0].size();
  const auto held_layer = [&](std::size_t rank, std::size_t stage, std::size_t position) {
    HeldLayer out{static_cast<int>(stage), static_cast<int>(position), {}};
    const int number = step.moe_layer[stage][position];
    for (std::size_t m = 0; m < drawn; ++m) {
      const bool even = shares.empty() || number < 0;
      const double share = even ? 1 : shares[rank][static_cast<std::size_t>(number)][m];
      out.by_microbatch.push_back(layer_at(plan.pipeline_layout[stage][position], share));
    }
    return out;
  };

  profiles_.resize(step.programs.size());
  for (std::size_t r = 0; r < schedule.ranks.size(); ++r) {
    Rank& rank = ranks_.emplace_back();
    rank.persistent = persistent_memory(scenario, plan, schedule, static_cast<int>(r));
    rank.gathered = gather_buffer(plan, rank.persistent, trains);
    for (const MemoryTensor& t : rank.persistent.tensors) {
      rank.base.add(t.category, t.bytes);
      rank.base.add(MemoryCategory::kWorkspace, allocated_bytes(t.bytes) - t.bytes);
    }
    for (const std::vector<int>& stages : schedule.stage_of) {
      auto& lane = rank.lanes.emplace_back();
      const auto stage = static_cast<std::size_t>(stages[r]);
      for (std::size_t position = 0; position < plan.pipeline_layout[stage].size(); ++position) {
        lane.push_back(held_layer(r, stage, position));
      }
    }
    if (!spans.empty()) rank.spans = std::move(spans[r]);
    for (std::size_t i = 0; i < schedule.ranks[r].size(); ++i) {
      const Step& played = schedule.ranks[r][i];
      const PlannedStep& planned = step.steps[r][i];
      rank.chunks.push_back({planned.program,
                             {played.first.lane, played.second.lane},
                             {planned.passes[0].microbatch, planned.passes[1].microbatch}});
      auto& profile = profiles_[static_cast<std::size_t>(planned.program)];
      if (!profile.empty()) continue;
      const auto layers = [&](int which) {
        const int stage = planned.passes[static_cast<std::size_t>(which)].stage;
        return stage < 0 ? Layers{} : plan.pipeline_layout[static_cast<std::size_t>(stage)];
      };
      profile = Profile(step.programs[static_cast<std::size_t>(planned.program)], played, layers(0),
                        layers(1), plan, trains)
                    .take();
    }
    Player player(*this, rank);
    Bytes most;
    player.run([&](const Moment& moment) {
      if (player.total() <= most) return true;
      most = player.total();
      rank.fullest = moment;
      rank.peak.totals = player.totals();
      return true;
    });
    rank.peak.when = player.time_of(rank.fullest);
    rank.peak.step = rank.fullest.step;
  }
}

int StepMemory::fullest() const {
  int out = 0;
  for (int rank = 1; rank < ranks(); ++rank) {
    if (peak(rank).totals.total() > peak(out).totals.total()) out = rank;
  }
  return out;
}

std::vector<MemoryTensor> StepMemory::tensors_at_peak(int rank_index) const {
  const Rank& rank = at(rank_index);
  Player player(*this, rank);
  player.run([&](const Moment& moment) { return moment != rank.fullest; });
  std::vector<MemoryTensor> out = rank.persistent.tensors;
  Bytes rounding;
  for (const MemoryTensor& t : out) rounding += allocated_bytes(t.bytes) - t.bytes;
  std::size_t place = 0;
  for (const auto& lane : rank.lanes) {
    for (const HeldLayer& layer : lane) {
      for (const LayerMemory* const memory : layer.by_microbatch) {
        for (std::size_t b = 0; b < kBundles; ++b) {
          const std::int64_t count = player.live()[place++];
          if (count == 0) continue;
          const BundleMemory& bundle = memory->at(static_cast<Bundle>(b));
          rounding += count * bundle.rounding;
          for (MemoryTensor t : bundle.tensors) {
            t.stage = layer.stage;
            t.position = layer.position;
            t.copies = count;
            t.copies_are = "live chunks";
            t.bytes = count * t.bytes;
            out.push_back(t);
          }
        }
      }
    }
  }
  if (rank.peak.step < 0) {
    out.push_back({.name = "gathered_parameters",
                   .category = MemoryCategory::kCommunication,
                   .precision = gathered_as_,
                   .rows = rank.persistent.parameters,
                   .rows_are = "parameters",
                   .reason = "updated, before they are cast",
                   .bytes = rank.gathered});
  }
  out.push_back({.name = "allocator_rounding",
                 .category = MemoryCategory::kWorkspace,
                 .precision = Precision::kFp8,
                 .rows = rounding.count(),
                 .rows_are = "bytes",
                 .reason = "blocks of 512 B, from 10 MiB on of 2 MiB",
                 .bytes = rounding});
  return out;
}

void StepMemory::play(int rank, const Visitor& visitor) const {
  Player player(*this, at(rank));
  player.run([&](const Moment& moment) {
    visitor(player.time_of(moment), player.totals());
    return true;
  });
}

}  // namespace pipecast
