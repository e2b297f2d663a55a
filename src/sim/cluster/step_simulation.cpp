#include "sim/cluster/step_simulation.hpp"

#include <algorithm>

namespace pipecast {

namespace {

/// Puts the columns of a step together and plays what follows their last passes.
class StepEnd {
 public:
  StepEnd(const Scenario& scenario, const StepPlan& plan, const std::vector<ColumnTimes>& columns,
          const StepConditions& conditions)
      : scenario_(scenario),
        plan_(plan),
        columns_(columns),
        group_(columns.front().gpus.size() / static_cast<std::size_t>(plan.ranks())),
        conditions_(conditions) {}

  StepTimes result(StepTrace* trace) {
    const PathEnd last = finish(trace);
    StepTimes out;
    out.time = end_ - Time();
    out.simulated_gpus = plan_.ranks() * replicas();
    for (const ColumnTimes& column : columns_) out.events += column.events;
    for (int rank = 0; rank < plan_.ranks(); ++rank) {
      out.ranks.push_back(rank_times(rank));
      out.spans.push_back(rank_spans(rank));
    }
    if (conditions_.explain) out.critical_path = critical_path(plan_, columns_, last);
    count_links(out);
    out.loads = load_statistics();
    return out;
  }

 private:
  [[nodiscard]] int replicas() const { return static_cast<int>(columns_.size() * group_); }

  /// Calls function(column, GPU of the column) for all GPUs of a rank, in the order of replicas.
  template <class Function>
  void for_rank(int rank, Function&& function) const {
    for (std::size_t column = 0; column < columns_.size(); ++column) {
      for (std::size_t index = 0; index < group_; ++index) {
        function(column, static_cast<std::size_t>(rank) * group_ + index);
      }
    }
  }

  /// Reduce gradients within each group, agree on the norm over all, update, gather.
  PathEnd finish(StepTrace* trace) {
    PathEnd last;
    Time agreed;
    for (const std::vector<int>& members : plan_.reduction_groups) {
      Time passed;
      PathEnd slowest;
      for (const int rank : members) {
        for_rank(rank, [&](std::size_t column, std::size_t gpu) {
          const Time finished = columns_[column].gpus[gpu].finished;
          if (finished <= passed && slowest.gpu >= 0) return;
          passed = finished;
          slowest = {static_cast<int>(column), static_cast<int>(gpu), rank};
        });
      }
      const auto first = static_cast<std::size_t>(members.front());
      const Time reduced = passed + plan_.optimizer[first].reduce_scatter;
      if (trace != nullptr && plan_.trains) {
        for (const int rank : members)
          trace->chunks.push_back({rank, "reduce-scatter", passed, reduced});
      }
      if (reduced < agreed) continue;
      agreed = reduced;
      last = slowest;
    }
    agreed += plan_.norm_all_reduce;
    for (int rank = 0; rank < plan_.ranks(); ++rank) {
      const OptimizerPlan& optimizer = plan_.optimizer[static_cast<std::size_t>(rank)];
      const Time updated = agreed + optimizer.update;
      const Time gathered = updated + optimizer.all_gather;
      end_ = std::max(end_, gathered);
      gathers_.push_back({updated, gathered});
      if (trace == nullptr || !plan_.trains) continue;
      trace->chunks.push_back({rank, "AdamW", agreed, updated});
      trace->chunks.push_back({rank, "all-gather", updated, gathered});
    }
    return last;
  }

  /// Means over the rank's GPUs; rounding goes to the bubble, so that the sum stays exact.
  RankTimes rank_times(int rank) const {
    RankTimes out{};
    const auto mean = [&](auto member) {
      std::int64_t sum = 0;
      for_rank(rank, [&](std::size_t column, std::size_t gpu) {
        sum += member(columns_[column].gpus[gpu]).count();
      });
      return Duration(sum / replicas());
    };
    const OptimizerPlan& optimizer = plan_.optimizer[static_cast<std::size_t>(rank)];
    Duration sum;
    for (std::size_t c = 0; c < kTimeCategories; ++c) {
      out.breakdown[c] = mean([c](const GpuTimes& gpu) { return gpu.breakdown[c]; });
      if (c == static_cast<std::size_t>(TimeCategory::kOptimizer)) {
        out.breakdown[c] = optimizer.reduce_scatter + plan_.norm_all_reduce + optimizer.update +
                           optimizer.all_gather;
      }
      sum += out.breakdown[c];
    }
    out.breakdown[static_cast<std::size_t>(TimeCategory::kBubble)] += (end_ - Time()) - sum;
    out.overlap.communication = mean([](const GpuTimes& gpu) { return gpu.overlap.communication; });
    out.overlap.exposed = mean([](const GpuTimes& gpu) { return gpu.overlap.exposed; });
    out.overlap.hidden = out.overlap.communication - out.overlap.exposed;
    out.overlap.waiting_for_peers =
        mean([](const GpuTimes& gpu) { return gpu.overlap.waiting_for_peers; });
    out.finish.earliest = end_ - Time();
    for_rank(rank, [&](std::size_t column, std::size_t gpu) {
      const Duration finished = columns_[column].gpus[gpu].finished - Time();
      out.finish.earliest = std::min(out.finish.earliest, finished);
      out.finish.latest = std::max(out.finish.latest, finished);
    });
    out.finish.mean = mean([](const GpuTimes& gpu) { return gpu.finished - Time(); });
    return out;
  }

  [[nodiscard]] RankSpans rank_spans(int rank) const {
    RankSpans out{.steps = {}, .gather = gathers_[static_cast<std::size_t>(rank)]};
    const std::size_t first = static_cast<std::size_t>(rank) * group_;
    for (const PlayedStep& step : columns_.front().record.steps[first]) {
      out.steps.push_back({step.begin, step.end});
    }
    return out;
  }

  void count_links(StepTimes& out) const {
    Bytes nic;
    Bytes nvlink;
    Bytes to_host;
    for (const ColumnTimes& column : columns_) {
      nic += column.nic_bytes;
      nvlink += column.nvlink_bytes;
    }
    for (int rank = 0; rank < plan_.ranks(); ++rank) {
      const OptimizerPlan& optimizer = plan_.optimizer[static_cast<std::size_t>(rank)];
      Bytes rank_nic = optimizer.nic_bytes;
      Bytes rank_nvlink = optimizer.nvlink_bytes;
      for (const PlannedStep& step : plan_.steps[static_cast<std::size_t>(rank)]) {
        rank_nic += plan_.programs[static_cast<std::size_t>(step.program)].nic_bytes;
        rank_nvlink += plan_.programs[static_cast<std::size_t>(step.program)].nvlink_bytes;
      }
      nic += rank_nic * replicas();
      nvlink += rank_nvlink * replicas();
      to_host += optimizer.pcie_bytes * replicas();
    }
    const double gpu_seconds = to_seconds(out.time) * static_cast<double>(out.simulated_gpus);
    const auto use = [&](Bytes bytes, Bandwidth reached) {
      return LinkUse{bytes, static_cast<double>(bytes.count()) / reached.count() / gpu_seconds};
    };
    out.nic = use(nic, reached_nic(scenario_.cluster, scenario_.calibration));
    out.pcie = use(nic + to_host, scenario_.cluster.pcie.bandwidth);
    out.nvlink = use(nvlink, reached_nvlink(scenario_.cluster, scenario_.calibration));
  }

  [[nodiscard]] LoadMeans load_statistics() const {
    LoadMeans out = plan_.busiest.statistics;
    if (conditions_.mode == SimulationMode::kFolded || !columns_.front().conditions->loads())
      return out;
    out = {.expert_max_over_mean = 0, .gpu_max_over_mean = 0, .nodes_per_token = 0};
    const auto share = 1 / static_cast<double>(columns_.size());
    for (const ColumnTimes& column : columns_) {
      const LoadMeans& one = column.conditions->loads()->statistics();
      out.expert_max_over_mean += one.expert_max_over_mean * share;
      out.gpu_max_over_mean += one.gpu_max_over_mean * share;
      out.nodes_per_token += one.nodes_per_token * share;
    }
    return out;
  }

  const Scenario& scenario_;
  const StepPlan& plan_;
  const std::vector<ColumnTimes>& columns_;
  std::size_t group_;
  const StepConditions& conditions_;
  Time end_;
  std::vector<TaskSpan> gathers_;  // [pipeline rank]
};

}  // namespace

StepTimes simulate_step(const Scenario& scenario, const PlanSpec& plan_spec, const StepPlan& plan,
                        const Schedule& schedule, const StepConditions& conditions,
                        StepTrace* trace, const ForEach& for_each) {
  const bool folded = conditions.mode == SimulationMode::kFolded;
  std::vector<ColumnTimes> columns(
      folded ? 1 : static_cast<std::size_t>(scenario.data_parallel() / plan_spec.ep));
  const auto play = [&](std::size_t column) {
    columns[column] = simulate_column(scenario, plan_spec, plan, schedule, conditions,
                                      static_cast<int>(column), column == 0 ? trace : nullptr);
  };
  if (for_each) {
    for_each(columns.size(), play);
  } else {
    for (std::size_t column = 0; column < columns.size(); ++column) play(column);
  }
  return StepEnd(scenario, plan, columns, conditions).result(trace);
}

}  // namespace pipecast
