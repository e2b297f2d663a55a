#include "sim/cluster/operation_graph.hpp"

#include <algorithm>
#include <boost/graph/dag_shortest_paths.hpp>
#include <boost/property_map/function_property_map.hpp>
#include <limits>
#include <map>
#include <utility>

#include "base/assert.hpp"

namespace pipecast {

namespace {

using Vertex = OperationVertex;

constexpr Vertex kNoVertex = std::numeric_limits<Vertex>::max();

const WorkShare kLateArrival{"late_arrival", "peers", {}};
const WorkShare kPipelineTransfer{"pipeline_transfer", "nic", {}};
const WorkShare kReduceScatter{"reduce_scatter", "nic", {}};
const WorkShare kAllReduceNorm{"all_reduce_norm", "latency", {}};
const WorkShare kAllGather{"all_gather", "nic", {}};

class Builder {
 public:
  Builder(const StepPlan& plan, const ColumnTimes& column)
      : plan_(plan), column_(column), group_(static_cast<int>(column.gpus.size()) / plan.ranks()) {
    std::vector<std::size_t> exchanges;  // by program
    for (const ChunkProgram& program : plan.programs) {
      exchanges.push_back(static_cast<std::size_t>(
          std::count_if(program.tasks.begin(), program.tasks.end(),
                        [](const Task& task) { return task.collective; })));
    }
    for (const auto& steps : plan.steps) {
      auto& before = exchanges_before_.emplace_back();
      std::size_t count = 0;
      for (const PlannedStep& step : steps) {
        before.push_back(count);
        count += exchanges[static_cast<std::size_t>(step.program)];
      }
      exchanges_.emplace_back(count, kNoVertex);
    }
  }

  ExecutedStep build(int last_gpu) {
    const auto steps = column_.record.steps[static_cast<std::size_t>(last_gpu)].size();
    const Vertex passed = chunk(last_gpu, static_cast<int>(steps) - 1).end;
    add_chunks_before(passed);
    const Vertex end = add_optimizer(last_gpu / group_, passed);
    ExecutedStep out{.graph = {boost::edges_are_unsorted_multi_pass, waits_.begin(), waits_.end(),
                               reasons_.begin(), static_cast<Vertex>(operations_.size())},
                     .end = end};
    for (Vertex v = 0; v < operations_.size(); ++v) out.graph[v] = operations_[v];
    return out;
  }

 private:
  struct Chunk {
    Vertex begin{};
    Vertex end{};
  };

  [[nodiscard]] const ChunkProgram& program(const PlannedStep& step) const {
    return plan_.programs[static_cast<std::size_t>(step.program)];
  }
  [[nodiscard]] const PlayedStep& played(int gpu, int step) const {
    return column_.record.steps[static_cast<std::size_t>(gpu)][static_cast<std::size_t>(step)];
  }

  Vertex add(const ExecutedOperation& operation) {
    operations_.push_back(operation);
    right_before_.push_back(kNoVertex);
    return static_cast<Vertex>(operations_.size() - 1);
  }
  void wait(Vertex waits, Vertex ends, Reason reason) {
    PIPECAST_ASSERT(operations_[ends].end <= operations_[waits].start);
    waits_.emplace_back(waits, ends);
    reasons_.push_back(reason);
    if (operations_[ends].end == operations_[waits].start) right_before_[waits] = ends;
  }

  /// Follows what ended when something else started back to the beginning of the step, and adds the
  /// chunks on the way.
  void add_chunks_before(Vertex vertex) {
    while (operations_[vertex].start > Time()) {
      const int gpu = operations_[vertex].gpu;
      const int step = operations_[vertex].step;
      // An exchange leads to the GPU that arrived last.
      if (vertex == chunk(gpu, step).begin) add_chunk_before(gpu, step);
      vertex = right_before_[vertex];
      PIPECAST_ASSERT(vertex != kNoVertex);
    }
  }

  void add_chunk_before(int gpu, int step) {
    const PlayedStep& now = played(gpu, step);
    if (now.sender_rank < 0) {
      chunk(gpu, step - 1);
      return;
    }
    const Vertex sent = chunk(now.sender_rank * group_ + gpu % group_, now.sender_step).end;
    const Vertex message = add({.start = now.begin - now.under_way,
                                .end = now.begin,
                                .pipeline_rank = gpu / group_,
                                .gpu = gpu,
                                .step = step,
                                .work = &kPipelineTransfer});
    wait(chunk(gpu, step).begin, message, Reason::kMessage);
    wait(message, sent, Reason::kData);
  }

  const Chunk& chunk(int gpu, int step) {
    const auto [place, added] = chunks_.try_emplace({gpu, step});
    if (added) {
      place->second = play(gpu, step);
      const auto before = chunks_.find({gpu, step - 1});
      if (before != chunks_.end())
        wait(place->second.begin, before->second.end, Reason::kPreviousChunk);
      const auto after = chunks_.find({gpu, step + 1});
      if (after != chunks_.end())
        wait(after->second.begin, place->second.end, Reason::kPreviousChunk);
    }
    return place->second;
  }

  Chunk play(int gpu, int step) {
    const int rank = gpu / group_;
    const auto& steps = plan_.steps[static_cast<std::size_t>(rank)];
    const std::vector<Task>& tasks = program(steps[static_cast<std::size_t>(step)]).tasks;
    const PlayedStep& now = played(gpu, step);
    const auto r = static_cast<std::size_t>(rank);
    const std::size_t first = exchanges_before_[r][static_cast<std::size_t>(step)];
    ExecutedOperation here{.pipeline_rank = rank, .gpu = gpu, .step = step};
    const auto add_here = [&](Time start, Time end) {
      here.start = start;
      here.end = end;
      return add(here);
    };

    spans_.resize(tasks.size());
    loads_.resize(tasks.size());
    arrivals_.clear();
    ChunkPlay play;
    play.begin(tasks, spans_.data(), now.begin,
               column_.conditions->chunk(rank, gpu % group_, step, loads_.data()));
    ChunkPlay::Stop stop = play.advance();
    for (; !stop.ended; stop = play.advance()) {
      here.work = &kLateArrival;
      const PlayedExchange& met = column_.record.exchanges[r][first + arrivals_.size()];
      arrivals_.push_back(
          add_here(stop.when, stop.when + column_.conditions->delay(play.random())));
      play.finish_collective(met.start, met.end);
    }
    PIPECAST_ASSERT(stop.when == now.end);
    here.work = nullptr;

    const Vertex begin = add_here(now.begin, now.begin);
    std::array<Vertex, 2> stream = {begin, begin};  // last operation of the two
    ends_.clear();
    auto arrival = arrivals_.begin();
    for (std::size_t i = 0; i < tasks.size(); ++i) {
      const Task& task = tasks[i];
      here.task = &task;
      Vertex waits{};
      Vertex ends{};
      if (task.collective) {
        const auto number = first + static_cast<std::size_t>(arrival - arrivals_.begin());
        waits = *arrival++;
        ends = exchange(r, number, here);
        wait(ends, waits, Reason::kArrival);
      } else {
        waits = ends = add_here(spans_[i].start, spans_[i].end);
      }
      Vertex& previous = stream[task.communication ? 1 : 0];
      wait(waits, previous, Reason::kStreamOrder);
      if (task.after >= 0)
        wait(waits, ends_.at(static_cast<std::size_t>(task.after)), Reason::kData);
      ends_.push_back(ends);
      previous = ends;
    }
    here.task = nullptr;
    const Vertex end = add_here(now.end, now.end);
    for (const Vertex last : stream) wait(end, last, Reason::kStreamOrder);
    return {begin, end};
  }

  /// The same for all GPUs of a group.
  Vertex exchange(std::size_t rank, std::size_t number, ExecutedOperation operation) {
    Vertex& vertex = exchanges_[rank][number];
    if (vertex == kNoVertex) {
      const PlayedExchange& played = column_.record.exchanges[rank][number];
      operation.start = played.start;
      operation.end = played.end;
      operation.gpu = operation.pipeline_rank * group_ + played.last;
      vertex = add(operation);
    }
    return vertex;
  }

  /// Reduce gradients, agree on their norm, update, gather; the end waits for every rank.
  Vertex add_optimizer(int last_rank, Vertex passed) {
    const auto after = [this](Vertex before, int rank, const WorkShare& work, Duration time,
                              Reason reason) {
      const Time start = operations_[before].end;
      const Vertex next = add({.start = start,
                               .end = start + time,
                               .pipeline_rank = rank,
                               .gpu = rank * group_,
                               .step = operations_[before].step,
                               .work = &work});
      wait(next, before, reason);
      return next;
    };
    const Vertex reduced = after(
        passed, last_rank, kReduceScatter,
        plan_.optimizer[static_cast<std::size_t>(last_rank)].reduce_scatter, Reason::kArrival);
    std::vector<Vertex> gathered;
    Time end;
    for (int rank = 0; rank < plan_.ranks(); ++rank) {
      const OptimizerPlan& optimizer = plan_.optimizer[static_cast<std::size_t>(rank)];
      Vertex done = after(reduced, rank, kAllReduceNorm, plan_.norm_all_reduce, Reason::kArrival);
      for (const WorkShare& work : optimizer.work)
        done = after(done, rank, work, work.time, Reason::kStreamOrder);
      done = after(done, rank, kAllGather, optimizer.all_gather, Reason::kData);
      gathered.push_back(done);
      end = std::max(end, operations_[done].end);
    }
    const Vertex all = add({.start = end, .end = end});
    for (const Vertex done : gathered) wait(all, done, Reason::kArrival);
    return all;
  }

  const StepPlan& plan_;
  const ColumnTimes& column_;
  int group_;
  std::vector<ExecutedOperation> operations_;               // by vertex
  std::vector<Vertex> right_before_;                        // by vertex: what ended when it started
  std::vector<std::pair<Vertex, Vertex>> waits_;            // edges
  std::vector<Reason> reasons_;                             // of edges
  std::map<std::pair<int, int>, Chunk> chunks_;             // by GPU and step
  std::vector<std::vector<std::size_t>> exchanges_before_;  // [rank][step]
  std::vector<std::vector<Vertex>> exchanges_;              // [rank][number]
  // Of the chunk that is played.
  std::vector<TaskSpan> spans_;
  std::vector<TaskLoad> loads_;
  std::vector<Vertex> arrivals_;  // by collective
  std::vector<Vertex> ends_;      // by task
};

}  // namespace

ExecutedStep executed_step(const StepPlan& plan, const ColumnTimes& column, int last_gpu) {
  return Builder(plan, column).build(last_gpu);
}

std::vector<OperationVertex> longest_path(const OperationGraph& graph, OperationVertex end) {
  using Edge = OperationGraph::edge_descriptor;
  // The shortest path where time counts negative. An edge has the time of what was waited for.
  const auto weight = boost::make_function_property_map<Edge, std::int64_t>([&graph](Edge edge) {
    const ExecutedOperation& before = graph[boost::target(edge, graph)];
    return (before.start - before.end).count();
  });
  std::vector<std::int64_t> distance(boost::num_vertices(graph));
  std::vector<OperationVertex> next(boost::num_vertices(graph));
  boost::dag_shortest_paths(
      graph, end,
      boost::weight_map(weight).distance_map(distance.data()).predecessor_map(next.data()));
  const auto farthest = std::min_element(distance.begin(), distance.end()) - distance.begin();
  std::vector<OperationVertex> path = {static_cast<OperationVertex>(farthest)};
  while (path.back() != end) path.push_back(next[path.back()]);
  std::reverse(path.begin(), path.end());
  return path;
}

}  // namespace pipecast
