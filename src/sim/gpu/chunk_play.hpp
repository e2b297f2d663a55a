/// A chunk as its stretches of kernels between points of synchronisation, and one GPU playing it.
#pragma once

#include <array>
#include <string_view>
#include <vector>

#include "base/units.hpp"
#include "model/specs/phase.hpp"
#include "model/specs/plan.hpp"

namespace pipecast {

/// Time that one kind of work takes on a chunk's critical path.
struct WorkShare {
  std::string_view operation;  ///< an operation's name
  std::string_view resource;   ///< what limits it: tensor, hbm, latency, nic, nvlink, issue
  Duration time;
};

/// Adds to the share of the same operation and resource, or appends it.
void add_share(std::vector<WorkShare>& shares, const WorkShare& added);

/// What the communication stream does to the computation beside it.
enum class Beside : std::uint8_t {
  kNothing,
  kNotify,    ///< few SMs held
  kWaiting,   ///< the communication SMs held, nothing moves
  kDispatch,  ///< and tokens go through HBM
  kCombine,
};
inline constexpr std::size_t kBesides = 5;

/// A stretch of kernels on one stream between points of synchronisation. A stream runs its tasks in
/// order; the side stream's kernels belong to the compute stream's tasks.
struct Task {
  /// Launch gaps included. Of computation: beside each of what communication does. Of
  /// communication: beside nothing, in the first place.
  std::array<Duration, kBesides> time{};
  std::array<Duration, kPhases> beside_phase{};  ///< of communication: beside computation
  int after = -1;  ///< a task that must have ended, besides the stream's previous one; -1: none
  bool communication = false;
  bool collective = false;  ///< starts when the whole expert-parallel group has arrived
  Beside beside{};          ///< of communication
  Duration transfer{};      ///< of a collective: in the chunk by itself, nobody being late
  Phase phase{};
  LayerKind layer{};
  std::vector<WorkShare> work{};  ///< of time[0]
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
  void begin(const std::vector<Task>& tasks, TaskSpan* spans, Time now);

  struct Stop {
    Time when;
    bool ended = false;  ///< the chunk; else a collective has been entered
  };
  Stop advance();

  /// The collective that was entered last.
  [[nodiscard]] const Task& collective() const { return (*tasks_)[communication_.next]; }
  void finish_collective(Time start, Time end);

  /// Time that the compute stream has been busy.
  [[nodiscard]] Duration computing() const { return computing_; }

 private:
  friend std::vector<TaskSpan> play_alone(std::vector<Task>& tasks);

  struct StreamState {
    bool communication = false;
    std::size_t next = 0;  ///< the task that runs, or the next one
    bool running = false;
    Duration whole{};  ///< its time at the present speed
    Duration left{};   ///< of that
  };

  [[nodiscard]] bool ready(const StreamState& stream) const;
  void go_to_next(StreamState& stream, std::size_t from) const;
  void start(StreamState& stream) const;
  void set_time(StreamState& stream, Duration whole) const;
  void pass(Duration time);
  void end_due(StreamState& stream) const;
  void compute_until(Time until, Beside beside);

  const std::vector<Task>* tasks_ = nullptr;
  TaskSpan* spans_ = nullptr;
  bool alone_ = false;  // collectives are tasks like others
  Time now_;
  StreamState compute_;
  StreamState communication_;
  Duration computing_;
};

/// Plays a chunk whose peers are never late and whose transfers take what the computation beside
/// them leaves them; sets Task::transfer.
std::vector<TaskSpan> play_alone(std::vector<Task>& tasks);

/// What the time of a chunk consists of: back from its end, always to the task that was waited for.
std::vector<WorkShare> critical_work(const std::vector<Task>& tasks,
                                     const std::vector<TaskSpan>& spans);

}  // namespace pipecast
