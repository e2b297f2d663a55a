#include "sim/cluster/critical_path.hpp"

#include <algorithm>
#include <map>
#include <tuple>

#include "sim/cluster/operation_graph.hpp"

namespace pipecast {

namespace {

/// Times by operation, resource and pipeline rank.
class Shares {
 public:
  explicit Shares(int ranks) : by_rank_(static_cast<std::size_t>(ranks)) {}

  // Names are nearly always the same literal: compared by address, merged by text in the end.
  void add(const WorkShare& kind, int rank, Duration time) {
    if (time <= Duration()) return;
    std::vector<WorkShare>& shares = by_rank_[static_cast<std::size_t>(rank)];
    for (WorkShare& share : shares) {
      if (share.operation.data() != kind.operation.data() ||
          share.resource.data() != kind.resource.data())
        continue;
      share.time += time;
      return;
    }
    shares.push_back({kind.operation, kind.resource, time});
  }

  [[nodiscard]] std::vector<CriticalShare> longest_first() const {
    std::map<std::tuple<std::string_view, std::string_view, int>, Duration> times;
    for (std::size_t rank = 0; rank < by_rank_.size(); ++rank) {
      for (const WorkShare& share : by_rank_[rank]) {
        times[{share.operation, share.resource, static_cast<int>(rank)}] += share.time;
      }
    }
    std::vector<CriticalShare> out;
    for (const auto& [key, time] : times) {
      const auto& [operation, resource, rank] = key;
      out.push_back({std::string(operation), std::string(resource), rank, time});
    }
    std::stable_sort(out.begin(), out.end(),
                     [](const auto& a, const auto& b) { return a.time > b.time; });
    return out;
  }

 private:
  std::vector<std::vector<WorkShare>> by_rank_;
};

/// What the operations of a path consist of. Every replay of a chunk is the same tasks: their times
/// are split into shares once.
std::vector<CriticalShare> shares_of(const std::vector<OperationVertex>& path,
                                     const OperationGraph& graph, int ranks) {
  Shares shares(ranks);
  std::map<std::pair<const Task*, int>, Duration> tasks;
  for (const OperationVertex vertex : path) {
    const ExecutedOperation& operation = graph[vertex];
    const Duration time = operation.end - operation.start;
    if (operation.task != nullptr) {
      tasks[{operation.task, operation.pipeline_rank}] += time;
    } else if (operation.work != nullptr) {
      shares.add(*operation.work, operation.pipeline_rank, time);
    }
  }
  for (const auto& [key, time] : tasks) {
    const auto& [task, rank] = key;
    for_work(*task, time,
             [&shares, r = rank](const WorkShare& share) { shares.add(share, r, share.time); });
  }
  return shares.longest_first();
}

}  // namespace

std::vector<CriticalShare> critical_path(const StepPlan& plan,
                                         const std::vector<ColumnTimes>& columns,
                                         const PathEnd& last) {
  const ExecutedStep step =
      executed_step(plan, columns[static_cast<std::size_t>(last.column)], last.gpu);
  return shares_of(longest_path(step.graph, step.end), step.graph, plan.ranks());
}

}  // namespace pipecast
