#include "app/memory/headroom.hpp"

#include <algorithm>
#include <limits>
#include <map>
#include <numeric>
#include <vector>

#include "app/config/check_scenario.hpp"

namespace pipecast {

namespace {

constexpr std::int64_t kSequenceStep = 128;    // tokens; the tile of attention and of FP8 scales
constexpr std::int64_t kImbalanceSteps = 100;  // of 0.01 in one times the balanced rows

/// The main step with one of its numbers changed.
class VariedStep {
 public:
  VariedStep(const Scenario& scenario, const HeadroomOptions& options)
      : scenario_(scenario),
        options_(options),
        main_(main_phase(scenario.recipe)),
        routing_(step_routing(scenario, main_.plan, options.seed)),
        step_(planned_step(scenario, main_.plan, main_.global_batch_size->to, routing_,
                           options.mode)) {}

  [[nodiscard]] const PhaseSpec& main() const { return main_; }
  [[nodiscard]] const StepForecast& step() const { return step_; }

  [[nodiscard]] StepMemory with_sequence(std::int64_t tokens) const {
    Scenario varied = scenario_;
    varied.recipe.seq_length = tokens;
    return memory_of(varied, main_.plan);
  }

  /// The batch grows with the micro-batch, so that the schedule stays as it is.
  [[nodiscard]] StepMemory with_micro_batch(std::int64_t sequences) const {
    PlanSpec varied = main_.plan;
    varied.micro_batch_size = static_cast<int>(sequences);
    return memory_of(scenario_, varied);
  }

  [[nodiscard]] StepMemory with_imbalance(double share) const {
    return {scenario_, main_.plan, step_.passes, step_.plan, uniform_row_shares(share, step_.plan)};
  }

  /// Mean over a rank's layers with experts and micro-batches, of the rank with most.
  [[nodiscard]] double present_imbalance() const {
    double out = 1;
    const RowShares shares =
        busiest_rows(scenario_, main_.plan, step_, routing_, options_.mode, options_.threads);
    for (std::size_t rank = 0; rank < shares.size(); ++rank) {
      double sum = 0;
      std::size_t draws = 0;
      for (const std::vector<int>& stages : step_.passes.stage_of) {
        for (const int layer : step_.plan.moe_layer[static_cast<std::size_t>(stages[rank])]) {
          if (layer < 0) continue;
          const std::vector<double>& drawn = shares[rank][static_cast<std::size_t>(layer)];
          sum = std::accumulate(drawn.begin(), drawn.end(), sum);
          draws += drawn.size();
        }
      }
      if (draws > 0) out = std::max(out, sum / static_cast<double>(draws));
    }
    return out;
  }

  /// What the loader takes, and a batch that is still an `int`.
  [[nodiscard]] std::int64_t most_micro_batch() const {
    const std::int64_t unit = std::int64_t{step_.microbatches} * replicas();
    return std::min(config::kMostTokensPerMicroBatch / scenario_.recipe.seq_length,
                    std::numeric_limits<int>::max() / unit);
  }

  /// All tokens of the group choose as many experts of one GPU as they may.
  [[nodiscard]] double most_imbalance() const {
    const ModelSpec& model = scenario_.model;
    const std::int64_t local = model.n_routed_experts / main_.plan.ep;
    const auto chosen =
        static_cast<double>(std::min<std::int64_t>(model.num_experts_per_tok, local));
    return chosen * main_.plan.ep / static_cast<double>(model.num_experts_per_tok);
  }

 private:
  [[nodiscard]] int replicas() const {
    const PlanSpec& plan = main_.plan;
    return scenario_.cluster.gpus() / (plan.tp * plan.cp * plan.pp);
  }

  [[nodiscard]] StepMemory memory_of(const Scenario& scenario, const PlanSpec& plan) const {
    StepRouting routing = routing_;
    if (routing.router != nullptr) routing.router = make_router(scenario, plan, options_.seed);
    const int batch = step_.microbatches * replicas() * plan.micro_batch_size;
    const StepForecast step = planned_step(scenario, plan, batch, routing, options_.mode);
    return step_memory(scenario, plan, step, routing, options_.mode, options_.threads);
  }

  const Scenario& scenario_;
  const HeadroomOptions& options_;
  const PhaseSpec& main_;
  StepRouting routing_;
  StepForecast step_;
};

/// Peaks of all ranks at whole numbers of steps, each looked at once.
class Search {
 public:
  using Peaks = std::vector<MemoryTotals>;
  using MemoryAt = std::function<StepMemory(std::int64_t)>;

  Search(MemoryAt memory_at, Bytes capacity, std::int64_t lowest, std::int64_t highest)
      : memory_at_(std::move(memory_at)),
        capacity_(capacity),
        lowest_(lowest),
        highest_(std::max(lowest, highest)) {}

  /// @param first  where to look first
  /// @param unit   what one step is, in the units of the answer
  HeadroomLimit run(std::int64_t first, double unit) {
    std::int64_t low = lowest_ - 1;  // fits, or is below all
    std::int64_t high = std::clamp(first, lowest_, highest_);
    if (fits(high)) {
      low = high;
      while (low < highest_) {
        high = std::min(2 * low, highest_);
        if (!fits(high)) break;
        low = high;
      }
    } else {
      while (high > lowest_) {
        const std::int64_t half = std::max(lowest_, high / 2);
        if (fits(half)) {
          low = half;
          break;
        }
        high = half;
      }
    }
    while (high - low > 1) {
      const std::int64_t middle = std::midpoint(low, high);
      (fits(middle) ? low : high) = middle;
    }
    HeadroomLimit out;
    if (low >= lowest_) {
      out.largest = static_cast<double>(low) * unit;
      out.fullest = fullest_of(low);
    }
    if (low < highest_) {
      out.stopped_by = stop_at(low + 1);
      out.stopped_by->at = static_cast<double>(low + 1) * unit;
    }
    return out;
  }

 private:
  const Peaks& at(std::int64_t steps) {
    const auto [it, fresh] = known_.try_emplace(steps);
    if (fresh) {
      const StepMemory memory = memory_at_(steps);
      for (int rank = 0; rank < memory.ranks(); ++rank) {
        it->second.push_back(memory.peak(rank).totals);
      }
    }
    return it->second;
  }

  FullestRank fullest_of(std::int64_t steps) {
    const Peaks& peaks = at(steps);
    const auto fullest = std::max_element(
        peaks.begin(), peaks.end(),
        [](const MemoryTotals& a, const MemoryTotals& b) { return a.total() < b.total(); });
    return {
        .rank = static_cast<int>(fullest - peaks.begin()), .peak = *fullest, .capacity = capacity_};
  }

  bool fits(std::int64_t steps) { return fullest_of(steps).fits(); }

  HeadroomStop stop_at(std::int64_t steps) {
    const FullestRank fullest = fullest_of(steps);
    HeadroomStop out{.rank = fullest.rank, .missing = fullest.missing()};
    MemoryTotals before;
    if (steps > lowest_) before = at(lowest_)[static_cast<std::size_t>(fullest.rank)];
    for (std::size_t c = 0; c < kMemoryCategories; ++c) {
      const auto category = static_cast<MemoryCategory>(c);
      const Bytes grown = fullest.peak.of(category) - before.of(category);
      if (c > 0 && grown <= out.grown) continue;
      out.category = category;
      out.grown = grown;
    }
    return out;
  }

  MemoryAt memory_at_;
  Bytes capacity_;
  std::int64_t lowest_;
  std::int64_t highest_;
  std::map<std::int64_t, Peaks> known_;
};

}  // namespace

Headroom find_headroom(const Scenario& scenario, const HeadroomOptions& options) {
  constexpr int kSearches = 3;
  const auto report = [&](int done) {
    if (options.progress) options.progress("headroom", static_cast<double>(done) / kSearches);
  };
  report(0);
  const VariedStep varied(scenario, options);
  const PlanSpec& plan = varied.main().plan;
  const std::int64_t sequence = scenario.recipe.seq_length;
  Headroom out{.phase = varied.main().name,
               .schedule = varied.step().schedule,
               .microbatches = varied.step().microbatches,
               .capacity = memory_capacity(scenario.cluster.gpu, plan)};

  out.sequence =
      Search([&](std::int64_t steps) { return varied.with_sequence(steps * kSequenceStep); },
             out.capacity, 1,
             config::kMostTokensPerMicroBatch / (plan.micro_batch_size * kSequenceStep))
          .run(sequence / kSequenceStep, static_cast<double>(kSequenceStep));
  out.sequence.present = static_cast<double>(sequence);
  report(1);

  out.micro_batch =
      Search([&](std::int64_t sequences) { return varied.with_micro_batch(sequences); },
             out.capacity, 1, varied.most_micro_batch())
          .run(plan.micro_batch_size, 1);
  out.micro_batch.present = plan.micro_batch_size;
  report(2);

  const double unit = 1.0 / kImbalanceSteps;
  out.imbalance = Search(
                      [&](std::int64_t steps) {
                        return varied.with_imbalance(static_cast<double>(steps) / kImbalanceSteps);
                      },
                      out.capacity, kImbalanceSteps,
                      static_cast<std::int64_t>(varied.most_imbalance() * kImbalanceSteps))
                      .run(kImbalanceSteps, unit);
  out.imbalance.present = varied.present_imbalance();
  report(kSearches);
  return out;
}

}  // namespace pipecast
