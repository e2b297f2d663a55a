#include <catch2/catch.hpp>

#include "model/schedules/live_chunks.hpp"
#include "scenarios.hpp"
#include "sim/cluster/step_memory.hpp"

using namespace pipecast;
using namespace pipecast::testing;

namespace {

struct Played {
  Schedule schedule;
  StepPlan plan;
  StepTimes times;
  StepMemory memory;
};

/// A folded step of a scenario's plan under a schedule of this kind.
Played played(Scenario s, const std::string& kind, int microbatches, const RowShares& shares = {}) {
  s.plan.schedule = kind;
  Played out;
  out.schedule = make_schedule(kind, s.plan.pp, microbatches);
  const std::size_t stages = static_cast<std::size_t>(out.schedule.stages());
  if (s.plan.pipeline_layout.size() != stages) {
    const LayerKind moe = LayerKind::kMoe;
    s.plan.pipeline_layout.assign(stages, {moe});
    s.plan.pipeline_layout.front().insert(s.plan.pipeline_layout.front().begin(),
                                          LayerKind::kEmbedding);
    s.plan.pipeline_layout.back().push_back(LayerKind::kHead);
  }
  out.plan = plan_step(s, s.plan, out.schedule, routing_of(s));
  out.times = simulate_step(s, s.plan, out.plan, out.schedule, {.mode = SimulationMode::kFolded});
  out.memory = StepMemory(s, s.plan, out.schedule, out.plan, shares, out.times.spans);
  return out;
}

MemoryTotals sum(const std::vector<MemoryTensor>& tensors) {
  MemoryTotals out;
  for (const MemoryTensor& t : tensors) out.add(t.category, t.bytes);
  return out;
}

Bytes kept(const Scenario& s, const std::vector<LayerKind>& stage) {
  Bytes out;
  const LayerLoad load = balanced_load(s.model, s.plan, s.recipe.seq_length);
  for (const LayerKind kind : stage) {
    const LayerMemory layer = layer_memory(s.model, s.plan, kind, load);
    out += layer.at(Bundle::kAttentionKept).bytes + layer.at(Bundle::kMlpKept).bytes;
  }
  return out;
}

/// Every moment of a rank obeys the laws; what is held at the end is what was at the beginning.
void check_rank(const Played& step, int rank) {
  const StepMemory::Peak& peak = step.memory.peak(rank);
  Time last;
  Bytes most;
  MemoryTotals first;
  MemoryTotals now;
  bool begun = false;
  step.memory.play(rank, [&](Time when, const MemoryTotals& totals) {
    if (!begun) first = totals;
    begun = true;
    if (when < last) FAIL("time runs backwards");
    last = when;
    Bytes total;
    for (std::size_t c = 0; c < kMemoryCategories; ++c) {
      const Bytes bytes = totals.of(static_cast<MemoryCategory>(c));
      if (bytes < Bytes()) FAIL("a category holds less than nothing");
      total += bytes;
    }
    if (total != totals.total()) FAIL("the categories are not the total");
    most = std::max(most, total);
    now = totals;
  });
  REQUIRE(now == first);
  REQUIRE(most == peak.totals.total());
  REQUIRE(last - Time() <= step.times.time);
  REQUIRE(peak.when - Time() <= step.times.time);
  REQUIRE(sum(step.memory.tensors_at_peak(rank)) == peak.totals);
}

}  // namespace

TEST_CASE("every byte of a step is freed or persistent, whatever the schedule", "[memory]") {
  const auto& kinds = Registry<ScheduleKind>::instance();
  const std::string kind = GENERATE_COPY(from_range(kinds.names()));
  const int zero_stage = GENERATE(1, 3);
  CAPTURE(kind, zero_stage);
  Scenario s = tiny();
  s.plan.zero_stage = zero_stage;
  const Played step = played(s, kind, 8);
  for (int rank = 0; rank < s.plan.pp; ++rank) check_rank(step, rank);
}

TEST_CASE("every byte of a step is freed or persistent, whatever the plan", "[memory]") {
  const std::string change =
      GENERATE("plan.zero_stage=0", "plan.recompute_modules=none", "plan.micro_batch_size=1",
               "plan.precision.gemm=bf16", "plan.overlap.communication=false", "plan.ep=1",
               "plan.memory.optimizer=host");
  CAPTURE(change);
  const Scenario s = tiny({change});
  const Played step = played(s, s.plan.schedule, 8);
  for (int rank = 0; rank < s.plan.pp; ++rank) check_rank(step, rank);
}

TEST_CASE("GPipe keeps all micro-batches before its first backward", "[memory]") {
  const Scenario s = tiny();
  const int microbatches = GENERATE(1, 3, 8);
  const Played step = played(s, "gpipe", microbatches);
  for (int rank = 0; rank < s.plan.pp; ++rank) {
    const auto& stage = s.plan.pipeline_layout[static_cast<std::size_t>(rank)];
    Bytes most;
    step.memory.play(rank, [&](Time, const MemoryTotals& totals) {
      most = std::max(most, totals.of(MemoryCategory::kActivations));
    });
    // At the first weight gradient its operands are there as well.
    REQUIRE(most >= microbatches * kept(s, stage));
    REQUIRE(most < (microbatches + 1) * kept(s, stage) + Bytes(2'000'000'000));
    const std::vector<MemoryTensor> tensors = step.memory.tensors_at_peak(rank);
    const auto copies = [&](std::string_view name) {
      std::int64_t out = 0;
      for (const MemoryTensor& t : tensors) out = t.name == name ? std::max(out, t.copies) : out;
      return out;
    };
    REQUIRE(copies("attention_norm_input") == microbatches);
  }
}

TEST_CASE("live chunks bound what is kept", "[memory]") {
  const Scenario s = tiny();
  const std::string kind = GENERATE("1f1b", "dualpipe", "gpipe");
  const Played step = played(s, kind, 8);
  const std::vector<int> live = peak_live_activations(step.schedule);
  for (int rank = 0; rank < s.plan.pp; ++rank) {
    Bytes largest;
    Bytes smallest(std::numeric_limits<std::int64_t>::max());
    for (const std::vector<int>& stages : step.schedule.stage_of) {
      const auto stage = static_cast<std::size_t>(stages[static_cast<std::size_t>(rank)]);
      largest = std::max(largest, kept(s, s.plan.pipeline_layout[stage]));
      smallest = std::min(smallest, kept(s, s.plan.pipeline_layout[stage]));
    }
    std::int64_t most = 0;
    for (const MemoryTensor& t : step.memory.tensors_at_peak(rank)) {
      if (t.name == "attention_norm_input") most = std::max(most, t.copies);
    }
    REQUIRE(most <= live[static_cast<std::size_t>(rank)]);
    // A backward frees layer by layer what a forward beside it takes: a chunk less at least.
    const Bytes activations = step.memory.peak(rank).totals.of(MemoryCategory::kActivations);
    REQUIRE(activations >= (live[static_cast<std::size_t>(rank)] - 1) * smallest);
  }
}

TEST_CASE("rows of the experts grow with their share, the rest stays", "[memory]") {
  const Scenario s = tiny();
  const Played even = played(s, "1f1b", 8);
  const Played same = played(s, "1f1b", 8, uniform_row_shares(1, even.plan));
  const Played more = played(s, "1f1b", 8, uniform_row_shares(1.5, even.plan));
  for (int rank = 0; rank < s.plan.pp; ++rank) {
    REQUIRE(same.memory.peak(rank).totals == even.memory.peak(rank).totals);
    REQUIRE(more.memory.peak(rank).totals.total() > even.memory.peak(rank).totals.total());
    REQUIRE(more.memory.peak(rank).totals.of(MemoryCategory::kWeights) ==
            even.memory.peak(rank).totals.of(MemoryCategory::kWeights));
  }
}

TEST_CASE("the busiest GPU of a rank has at least the mean of rows", "[memory]") {
  Scenario s = tiny();
  s.routing.distribution = "dirichlet";
  s.routing.concentration.value = 10;
  const Schedule schedule = make_schedule("dualpipe", s.plan.pp, 8);
  const StepPlan plan = plan_step(s, s.plan, schedule, routing_of(s));
  const RoutingGroup group{.gpus = s.plan.ep,
                           .gpus_per_node = s.cluster.gpus_per_node,
                           .tokens = s.plan.micro_batch_size * s.recipe.seq_length};
  const Router router(s.model, s.routing, group, 1);
  const int drawn = GENERATE(1, 5);
  const RowShares busiest = row_shares(router, plan, schedule, 1, drawn);
  REQUIRE(busiest.size() == static_cast<std::size_t>(s.plan.pp));
  for (const auto& layers : busiest) {
    double sum = 0;
    for (const std::vector<double>& shares : layers) {
      REQUIRE(shares.size() == static_cast<std::size_t>(drawn));
      for (const double share : shares) sum += share;
    }
    REQUIRE(sum >= static_cast<double>(layers.size()) * drawn);
  }
  // Ranks that hold the same stages have the same GPUs' shares.
  REQUIRE(busiest.front() == busiest.back());
  REQUIRE(row_shares(router, plan, schedule, 1, drawn) == busiest);
}

TEST_CASE("without times the peak is the same", "[memory]") {
  const Scenario s = tiny();
  const Played step = played(s, "dualpipe", 8);
  const StepMemory timeless(s, s.plan, step.schedule, step.plan, {});
  for (int rank = 0; rank < s.plan.pp; ++rank) {
    REQUIRE(timeless.peak(rank).totals == step.memory.peak(rank).totals);
    REQUIRE(timeless.peak(rank).step == step.memory.peak(rank).step);
  }
}

TEST_CASE("DeepSeek-V3 fits 80 GB on every rank without tensor parallelism", "[memory]") {
  const Scenario s = shipped("deepseek-v3-h800");
  const Played step = played(s, "dualpipe", 120);
  REQUIRE(s.plan.tp == 1);
  for (int rank = 0; rank < s.plan.pp; ++rank) {
    CAPTURE(rank);
    REQUIRE(step.memory.peak(rank).totals.total() <= memory_capacity(s.cluster.gpu, s.plan));
    // Ranks with the same stages hold as much.
    REQUIRE(step.memory.peak(rank).totals.total() ==
            step.memory.peak(s.plan.pp - 1 - rank).totals.total());
  }
}
