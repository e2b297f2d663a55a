#include "sim/cluster/critical_path.hpp"

#include <algorithm>
#include <map>
#include <tuple>

namespace pipecast {

namespace {

/// Times by operation, resource and pipeline rank.
class Shares {
 public:
  void add(std::string_view operation, std::string_view resource, int rank, Duration time) {
    if (time > Duration()) times_[{operation, resource, rank}] += time;
  }

  [[nodiscard]] std::vector<CriticalShare> longest_first() const {
    std::vector<CriticalShare> out;
    for (const auto& [key, time] : times_) {
      const auto& [operation, resource, rank] = key;
      out.push_back({std::string(operation), std::string(resource), rank, time});
    }
    std::stable_sort(out.begin(), out.end(),
                     [](const auto& a, const auto& b) { return a.time > b.time; });
    return out;
  }

 private:
  std::map<std::tuple<std::string_view, std::string_view, int>, Duration> times_;
};

/// What the path passes on one pipeline rank. Programs are counted first and taken apart once.
struct PathOnRank {
  std::vector<std::int64_t> runs;  // by program
  Duration waiting;                // for peers
  Duration under_way;              // messages to this rank
};

std::vector<PathOnRank> walk_back(const StepPlan& plan,
                                  const std::vector<std::vector<PlayedStep>>& played,
                                  int last_rank) {
  std::vector<PathOnRank> path(played.size());
  for (PathOnRank& on_rank : path) on_rank.runs.resize(plan.programs.size());
  StepId at{last_rank, static_cast<int>(played[static_cast<std::size_t>(last_rank)].size()) - 1};
  while (at.step >= 0) {
    const auto rank = static_cast<std::size_t>(at.rank);
    const auto step = static_cast<std::size_t>(at.step);
    const PlayedStep& here = played[rank][step];
    const auto program = static_cast<std::size_t>(plan.steps[rank][step].program);
    ++path[rank].runs[program];
    path[rank].waiting += here.span - plan.programs[program].alone;
    path[rank].under_way += here.under_way;
    at = here.sender.rank >= 0 ? here.sender : StepId{at.rank, at.step - 1};
  }
  return path;
}

/// The end of the step: the slowest rank's update and gather after the last reduction.
void add_optimizer(Shares& shares, const StepPlan& plan, int last_rank) {
  const auto tail = [](const OptimizerPlan& o) { return o.update + o.all_gather; };
  const auto slowest = std::max_element(
      plan.optimizer.begin(), plan.optimizer.end(),
      [&](const OptimizerPlan& a, const OptimizerPlan& b) { return tail(a) < tail(b); });
  const int rank = static_cast<int>(slowest - plan.optimizer.begin());
  shares.add("all_gather", "nic", rank, slowest->all_gather);
  for (const WorkShare& work : slowest->work)
    shares.add(work.operation, work.resource, rank, work.time);
  shares.add("all_reduce_norm", "latency", rank, plan.norm_all_reduce);
  shares.add("reduce_scatter", "nic", last_rank,
             plan.optimizer[static_cast<std::size_t>(last_rank)].reduce_scatter);
}

}  // namespace

std::vector<CriticalShare> critical_path(const StepPlan& plan,
                                         const std::vector<std::vector<PlayedStep>>& played,
                                         int last_rank) {
  Shares shares;
  add_optimizer(shares, plan, last_rank);
  const std::vector<PathOnRank> path = walk_back(plan, played, last_rank);
  for (int rank = 0; rank < plan.ranks(); ++rank) {
    const PathOnRank& on_rank = path[static_cast<std::size_t>(rank)];
    for (std::size_t i = 0; i < plan.programs.size(); ++i) {
      if (on_rank.runs[i] == 0) continue;
      for (const WorkShare& work : plan.programs[i].critical) {
        shares.add(work.operation, work.resource, rank, work.time * on_rank.runs[i]);
      }
    }
    shares.add("waiting_for_peers", "peers", rank, on_rank.waiting);
    shares.add("pipeline_transfer", "nic", rank, on_rank.under_way);
  }
  return shares.longest_first();
}

}  // namespace pipecast
