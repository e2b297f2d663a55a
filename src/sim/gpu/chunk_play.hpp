/// A chunk as its stretches of kernels between points of synchronisation, and one GPU playing it.
#pragma once

#include <algorithm>
#include <array>
#include <string_view>
#include <vector>

#include "base/random.hpp"
#include "model/specs/plan.hpp"
#include "sim/gpu/load_curve.hpp"
#include "sim/gpu/stretch.hpp"

namespace pipecast {

/// Time that one kind of work takes on a chunk's critical path.
struct WorkShare {
  std::string_view operation;  ///< an operation's name
  std::string_view resource;   ///< what limits it: tensor, hbm, latency, nic, nvlink, issue
  Duration time;
};

/// Adds to the share of the same operation and resource, or appends it.
void add_share(std::vector<WorkShare>& shares, const WorkShare& added);

/// What sharding gradients (ZeRO-2) and weights (ZeRO-3) sends inside chunks.
enum class ShardMove : std::uint8_t { kNone, kAllGather, kReduceScatter };

/// "", "all_gather", "reduce_scatter".
std::string_view name_of(ShardMove move);

/// A stretch of kernels on one stream between points of synchronisation. A stream runs its tasks in
/// order; the side stream's kernels belong to the compute stream's tasks.
struct Task {
  TaskTimes times{};                 ///< at balanced routing, or at any if there is no curve
  const LoadCurve* curve = nullptr;  ///< at other loads
  int slot = -1;   ///< layer whose load decides: the forward's from 0, then the backward's
  int after = -1;  ///< a task that must have ended, besides the stream's previous one; -1: none
  bool communication = false;
  bool collective = false;  ///< starts when the whole expert-parallel group has arrived
  Beside beside{};          ///< of communication
  ShardMove move{};         ///< of a layer's weights or gradients: as fast on every GPU
  Duration transfer{};      ///< of a collective: in the chunk by itself, nobody being late
  Phase phase{};
  LayerKind layer{};
  std::vector<WorkShare> work{};  ///< of times.time[0]
};

/// What makes one GPU's chunk different from another's.
struct ChunkConditions {
  const TaskLoad* loads = nullptr;  ///< by slot; none: balanced
  double slowness = 1;              ///< times that this GPU takes longer than it should
  double jitter = 0;                ///< relative deviation of a task's time, drawn for each
  Random random{0, "chunk"};        ///< what jitter is drawn from
};

/// When a task ran, counted as its caller counts.
struct TaskSpan {
  Time start;
  Time end;
};

/// One GPU in a chunk. Both streams go on at the speed that each leaves the other, until the GPU
/// enters a collective: when that starts and ends is for its group to say.
class ChunkPlay {
 public:
  /// @param spans  of the tasks, filled while they run; as long as `tasks`; both outlive the play
  void begin(const std::vector<Task>& tasks, TaskSpan* spans, Time now,
             const ChunkConditions& conditions = {});

  struct Stop {
    Time when;
    bool ended = false;  ///< the chunk; else a collective has been entered
  };
  Stop advance();

  /// The collective that was entered last.
  [[nodiscard]] const Task& collective() const { return (*tasks_)[communication_.next]; }
  void finish_collective(Time start, Time end);

  /// What chance has in store for this chunk.
  [[nodiscard]] Random& random() { return conditions_.random; }

  /// Time that the compute stream has been busy.
  [[nodiscard]] Duration computing() const { return computing_; }

 private:
  friend std::vector<TaskSpan> play_alone(const std::vector<Task>& tasks, const TaskLoad* loads);

  struct StreamState {
    bool communication = false;
    std::size_t next = 0;  ///< the task that runs, or the next one
    bool running = false;
    Duration whole{};   ///< its time at the present speed
    Duration left{};    ///< of that
    double factor = 1;  ///< of its GPU and of jitter
  };

  [[nodiscard]] bool ready(const StreamState& stream) const;
  void go_to_next(StreamState& stream, std::size_t from) const;
  void start(StreamState& stream);
  [[nodiscard]] Duration compute_time(Beside beside) const;
  [[nodiscard]] Duration communication_time() const;
  void set_time(StreamState& stream, Duration whole) const;
  void pass(Duration time);
  void end_due(StreamState& stream) const;
  void compute_until(Time until, Beside beside);

  const std::vector<Task>* tasks_ = nullptr;
  TaskSpan* spans_ = nullptr;
  bool alone_ = false;  // collectives are tasks like others
  ChunkConditions conditions_;
  Time now_;
  StreamState compute_;
  StreamState communication_;
  Duration computing_;
};

/// Plays a chunk whose peers are never late and whose transfers take what the computation beside
/// them leaves them.
/// @param loads  by slot; none: balanced
std::vector<TaskSpan> play_alone(const std::vector<Task>& tasks, const TaskLoad* loads = nullptr);

/// Calls function(WorkShare) for the work of a task that took longer or shorter than beside
/// nothing; what rounding leaves goes to its last share.
template <class Function>
void for_work(const Task& task, Duration took, Function&& function) {
  Duration left = took;
  for (std::size_t i = 0; i < task.work.size(); ++i) {
    WorkShare share = task.work[i];
    const bool last = i + 1 == task.work.size();
    share.time = last ? left : std::min(left, stretched(share.time, task.times.time.front(), took));
    left -= share.time;
    function(share);
  }
}

/// What the time of a chunk consists of: back from its end, always to the task that was waited for.
std::vector<WorkShare> critical_work(const std::vector<Task>& tasks,
                                     const std::vector<TaskSpan>& spans);

}  // namespace pipecast
