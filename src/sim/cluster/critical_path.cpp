#include "sim/cluster/critical_path.hpp"

#include <algorithm>
#include <map>
#include <tuple>

#include "base/assert.hpp"

namespace pipecast {

namespace {

/// Times by operation, resource and pipeline rank.
class Shares {
 public:
  explicit Shares(int ranks) : by_rank_(static_cast<std::size_t>(ranks)) {}

  // Names are nearly always the same literal: compared by address, merged by text in the end.
  void add(std::string_view operation, std::string_view resource, int rank, Duration time) {
    if (time <= Duration()) return;
    std::vector<WorkShare>& shares = by_rank_[static_cast<std::size_t>(rank)];
    for (WorkShare& share : shares) {
      if (share.operation.data() != operation.data() || share.resource.data() != resource.data())
        continue;
      share.time += time;
      return;
    }
    shares.push_back({operation, resource, time});
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

/// A chunk played once more on one GPU.
struct Replay {
  std::vector<TaskSpan> spans;
  std::vector<Time> ready;   // for every collective: when the GPU was, before its delay
  std::vector<int> ordinal;  // of every task that is a collective; else -1
};

class Walk {
 public:
  Walk(const StepPlan& plan, const ColumnTimes& column)
      : plan_(plan), column_(column), group_(static_cast<int>(column.gpus.size()) / plan.ranks()) {
    for (const auto& steps : plan.steps) {
      // Exchanges before each step, to find a chunk's among its group's.
      auto& before = exchanges_before_.emplace_back();
      int count = 0;
      for (const PlannedStep& step : steps) {
        before.push_back(count);
        for (const Task& task : program(step).tasks) count += task.collective ? 1 : 0;
      }
    }
  }

  void run(const PathEnd& last, Shares& shares) {
    gpu_ = last.gpu;
    step_ = static_cast<int>(column_.record.steps[static_cast<std::size_t>(gpu_)].size()) - 1;
    while (step_ >= 0) {
      go_through_chunk(shares);
      const PlayedStep& played = played_step();
      const int rank = gpu_ / group_;
      if (played.sender_rank >= 0) {
        shares.add("pipeline_transfer", "nic", rank, played.under_way);
        gpu_ = played.sender_rank * group_ + gpu_ % group_;
        step_ = played.sender_step;
      } else {
        --step_;
      }
    }
  }

 private:
  [[nodiscard]] const ChunkProgram& program(const PlannedStep& step) const {
    return plan_.programs[static_cast<std::size_t>(step.program)];
  }
  [[nodiscard]] const PlayedStep& played_step() const {
    return column_.record.steps[static_cast<std::size_t>(gpu_)][static_cast<std::size_t>(step_)];
  }
  [[nodiscard]] const std::vector<Task>& tasks() const {
    const auto& steps = plan_.steps[static_cast<std::size_t>(gpu_ / group_)];
    return program(steps[static_cast<std::size_t>(step_)]).tasks;
  }
  [[nodiscard]] const PlayedExchange& exchange(int ordinal) const {
    const auto rank = static_cast<std::size_t>(gpu_ / group_);
    return column_.record.exchanges[rank][static_cast<std::size_t>(
        exchanges_before_[rank][static_cast<std::size_t>(step_)] + ordinal)];
  }

  Replay replay() {
    Replay out;
    out.spans.resize(tasks().size());
    for (const Task& task : tasks()) {
      out.ordinal.push_back(task.collective ? static_cast<int>(out.ready.size()) : -1);
      if (task.collective) out.ready.emplace_back();
    }
    loads_.resize(tasks().size());
    ChunkPlay play;
    play.begin(tasks(), out.spans.data(), played_step().begin,
               column_.conditions->chunk(gpu_ / group_, gpu_ % group_, step_, loads_.data()));
    for (int ordinal = 0;; ++ordinal) {
      const ChunkPlay::Stop stop = play.advance();
      if (stop.ended) {
        PIPECAST_ASSERT(stop.when == played_step().end);
        return out;
      }
      out.ready[static_cast<std::size_t>(ordinal)] = stop.when;
      static_cast<void>(column_.conditions->delay(play.random()));  // chance goes on as it did
      play.finish_collective(exchange(ordinal).start, exchange(ordinal).end);
    }
  }

  /// From the end of the chunk on this GPU to its beginning, maybe on another GPU of the group.
  void go_through_chunk(Shares& shares) {
    const int rank = gpu_ / group_;
    Replay here = replay();
    Time at = played_step().end;
    auto task = tasks().size();
    while (at != played_step().begin) {
      do {
        PIPECAST_ASSERT(task > 0);
        --task;
      } while (here.spans[task].end != at || here.spans[task].start == at);
      for_work(tasks()[task], at - here.spans[task].start, [&](const WorkShare& share) {
        shares.add(share.operation, share.resource, rank, share.time);
      });
      at = here.spans[task].start;
      const int ordinal = here.ordinal[task];
      if (ordinal < 0) continue;
      const int last = rank * group_ + exchange(ordinal).last;
      if (last != gpu_) {
        gpu_ = last;
        here = replay();
      }
      const Time ready = here.ready[static_cast<std::size_t>(ordinal)];
      shares.add("late_arrival", "peers", rank, at - ready);
      at = ready;
    }
  }

  const StepPlan& plan_;
  const ColumnTimes& column_;
  int group_;
  std::vector<std::vector<int>> exchanges_before_;  // [rank][step]
  std::vector<TaskLoad> loads_;
  int gpu_ = 0;
  int step_ = 0;
};

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
                                         const std::vector<ColumnTimes>& columns,
                                         const PathEnd& last) {
  Shares shares(plan.ranks());
  add_optimizer(shares, plan, last.rank);
  Walk(plan, columns[static_cast<std::size_t>(last.column)]).run(last, shares);
  return shares.longest_first();
}

}  // namespace pipecast
