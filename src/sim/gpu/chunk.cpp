#include "sim/gpu/chunk.hpp"

#include <algorithm>
#include <array>

#include "model/operations/layer_operations.hpp"

namespace pipecast {

namespace {

void add_share(std::vector<WorkShare>& shares, std::string_view operation,
               std::string_view resource, Duration time) {
  for (WorkShare& share : shares) {
    if (share.operation == operation && share.resource == resource) {
      share.time += time;
      return;
    }
  }
  shares.push_back({operation, resource, time});
}

std::string_view name_of(TransferBound bound) {
  switch (bound) {
    case TransferBound::kNic:
      return "nic";
    case TransferBound::kNvlink:
      return "nvlink";
    case TransferBound::kIssue:
      return "issue";
  }
  return "";
}

Duration scaled(Duration time, double factor) {
  return duration_from_picoseconds(static_cast<double>(time.count()) * factor);
}

bool is_transfer(const Operation& op) { return op.op == "ep_dispatch" || op.op == "ep_combine"; }

/// Plays a program whose peers are never late and returns the end of every task.
std::vector<Duration> play_alone(const std::vector<Task>& tasks, std::vector<int>& cause) {
  std::vector<Duration> ends(tasks.size());
  std::array<int, 3> last_on_stream = {-1, -1, -1};
  for (std::size_t i = 0; i < tasks.size(); ++i) {
    const Task& task = tasks[i];
    int& last = last_on_stream[static_cast<std::size_t>(task.stream)];
    Duration start;
    cause[i] = -1;
    for (const int before : {last, task.after}) {
      if (before < 0) continue;
      const Duration end = ends[static_cast<std::size_t>(before)];
      if (end > start) {
        start = end;
        cause[i] = before;
      }
    }
    ends[i] = start + task.duration;
    last = static_cast<int>(i);
  }
  return ends;
}

}  // namespace

/// A task before it has its place in a chunk.
struct ChunkBuilder::Piece {
  Duration duration;
  Stream stream{};
  bool collective = false;
  bool beside_previous = false;  ///< starts with the piece before it instead of after it
  Bytes nic_bytes{};
  Bytes nvlink_bytes{};
  std::vector<WorkShare> work{};
};

/// Puts phases one after another and remembers who waits for whom.
class ChunkBuilder::Assembly {
 public:
  /// Appends a phase and returns its last task, or `after` if the phase is empty.
  int add(const std::vector<Piece>& pieces, LayerKind layer, Phase phase, int after) {
    int last = after;
    for (const Piece& piece : pieces) {
      Task task{.duration = piece.duration,
                .after = last,
                .stream = piece.stream,
                .collective = piece.collective,
                .phase = phase,
                .layer = layer,
                .work = piece.work};
      if (piece.beside_previous) task.after = program_.tasks.back().after;
      program_.tasks.push_back(std::move(task));
      if (!piece.beside_previous) last = static_cast<int>(program_.tasks.size()) - 1;
      if (piece.collective) program_.communication += piece.duration;
      if (piece.stream == Stream::kCompute) program_.compute += piece.duration;
      program_.nic_bytes += piece.nic_bytes;
      program_.nvlink_bytes += piece.nvlink_bytes;
    }
    return last;
  }

  ChunkProgram finish() {
    std::vector<int> cause(program_.tasks.size());
    const std::vector<Duration> ends = play_alone(program_.tasks, cause);
    const auto latest = std::max_element(ends.begin(), ends.end());
    if (latest == ends.end()) return std::move(program_);
    program_.alone = *latest;
    for (int i = static_cast<int>(latest - ends.begin()); i >= 0;
         i = cause[static_cast<std::size_t>(i)]) {
      for (const WorkShare& share : program_.tasks[static_cast<std::size_t>(i)].work) {
        add_share(program_.critical, share.operation, share.resource, share.time);
      }
    }
    return std::move(program_);
  }

 private:
  ChunkProgram program_;
};

ChunkBuilder::ChunkBuilder(const Scenario& scenario, const PlanSpec& plan,
                           const RoutingStatistics& routing)
    : scenario_(scenario),
      plan_(plan),
      routing_(routing),
      kernels_(scenario.cluster.gpu, scenario.calibration) {
  const LayerLoad load = balanced_load(scenario.model, plan, scenario.recipe.seq_length);
  for (const auto& stage : plan.pipeline_layout) {
    for (const LayerKind kind : stage) {
      if (layers_.count(kind) == 0)
        layers_.emplace(kind, layer_operations(scenario.model, plan, kind, load));
    }
  }
}

ChunkBuilder::Piece ChunkBuilder::compute_piece(const std::vector<Operation>& operations,
                                                std::size_t first, std::size_t last,
                                                bool overlapped) const {
  const CalibrationSpec& calibration = scenario_.calibration;
  const int all_sms = scenario_.cluster.gpu.sm_count;
  const Duration gap = duration_from_seconds(calibration.latency.launch_gap_us.value * 1e-6);
  Piece piece;
  for (std::size_t i = first; i < last; ++i) {
    // In a pair the casts before a transfer get the SMs that computation leaves (trace).
    const bool beside = operations[i].stream == Stream::kCommunication;
    const int sms = !overlapped ? all_sms
                    : beside    ? plan_.communication_sms
                                : all_sms - plan_.communication_sms;
    const KernelCost& cost = kernels_.cost(operations[i], sms);
    const Duration time = cost.time;
    add_share(piece.work, operations[i].op, pipecast::name_of(cost.limited_by), time);
    add_share(piece.work, "launch_gap", "latency", gap);
    piece.duration += time + gap;
  }
  return piece;
}

ChunkBuilder::Piece ChunkBuilder::transfer_piece(const Operation& operation,
                                                 bool overlapped) const {
  const bool dispatch = operation.op == "ep_dispatch";
  const auto& contention = scenario_.calibration.contention;
  const std::int64_t tokens = plan_.micro_batch_size * scenario_.recipe.seq_length;
  const PortLoad load = balanced_port_load(
      routing_, tokens, stored_bytes(operation.precision, 1, scenario_.model.hidden_size), plan_.ep,
      scenario_.cluster.gpus_per_node, dispatch ? Exchange::kDispatch : Exchange::kCombine);
  const TransferCost cost =
      all_to_all_time(load, scenario_.cluster, scenario_.calibration, plan_.communication_sms);
  const double slowdown = !overlapped ? 1.0
                          : dispatch  ? contention.dispatch.value
                                      : contention.combine.value;
  Piece piece{.duration = scaled(cost.time, slowdown),
              .stream = Stream::kCommunication,
              .collective = true,
              .nic_bytes = load.nic,
              .nvlink_bytes = load.nvlink};
  piece.work.push_back({operation.op, name_of(cost.bound), piece.duration});
  return piece;
}

std::vector<ChunkBuilder::Piece> ChunkBuilder::pieces_of(LayerKind kind, Phase phase,
                                                         bool overlapped) const {
  const std::vector<Operation>& operations = layers_.at(kind).at(phase);
  std::vector<Piece> pieces;
  const auto append = [&](std::size_t first, std::size_t last, Stream stream) {
    if (first == last) return;
    pieces.push_back(compute_piece(operations, first, last, overlapped));
    pieces.back().stream = stream;
  };

  if (!operations.empty() && operations.front().stream == Stream::kCommunication) {
    // Local kernels and the notification first, then the transfer that the whole group enters
    // together.
    std::size_t first = 0;
    for (std::size_t i = 0; i < operations.size(); ++i) {
      if (!is_transfer(operations[i])) continue;
      append(first, i, Stream::kCommunication);
      pieces.push_back(transfer_piece(operations[i], overlapped));
      first = i + 1;
    }
    append(first, operations.size(), Stream::kCommunication);
    return pieces;
  }

  // Kernels of the side stream share the SMs with those between them: both streams are busy for the
  // sum.
  const auto on_side = [](const Operation& op) { return op.stream == Stream::kSide; };
  const auto begin = std::find_if(operations.begin(), operations.end(), on_side);
  if (begin == operations.end()) {
    append(0, operations.size(), Stream::kCompute);
    return pieces;
  }
  const auto end = std::find_if(operations.rbegin(), operations.rend(), on_side).base();
  const auto first_side = static_cast<std::size_t>(begin - operations.begin());
  const auto last_side = static_cast<std::size_t>(end - operations.begin());
  append(0, first_side, Stream::kCompute);
  append(first_side, last_side, Stream::kCompute);
  pieces.push_back(
      {.duration = pieces.back().duration, .stream = Stream::kSide, .beside_previous = true});
  append(last_side, operations.size(), Stream::kCompute);
  return pieces;
}

ChunkProgram ChunkBuilder::overlapped(int forward_stage, int backward_stage) const {
  const std::vector<LayerKind>& forward =
      plan_.pipeline_layout[static_cast<std::size_t>(forward_stage)];
  const std::vector<LayerKind>& backward =
      plan_.pipeline_layout[static_cast<std::size_t>(backward_stage)];
  Assembly chunk;
  int f = -1;  // last task that the next forward layer needs
  int b = -1;
  const std::size_t pairs = std::max(forward.size(), backward.size());
  for (std::size_t i = 0; i < pairs; ++i) {
    const LayerKind* f_kind = i < forward.size() ? &forward[i] : nullptr;
    const LayerKind* b_kind = i < backward.size() ? &backward[backward.size() - 1 - i] : nullptr;
    const auto run = [&](const LayerKind* kind, Phase phase, int after) {
      return kind != nullptr ? chunk.add(pieces_of(*kind, phase, true), *kind, phase, after)
                             : after;
    };
    b = run(b_kind, Phase::kCombineBackward, b);
    f = run(f_kind, Phase::kAttentionForward, f);
    f = run(f_kind, Phase::kDispatchForward, f);
    b = run(b_kind, Phase::kMlpBackward, b);
    run(b_kind, Phase::kMlpWeight, b);
    b = run(b_kind, Phase::kDispatchBackward, b);
    f = run(f_kind, Phase::kMlpForward, f);
    f = run(f_kind, Phase::kCombineForward, f);
    b = run(b_kind, Phase::kAttentionBackward, b);
    run(b_kind, Phase::kAttentionWeight, b);
  }
  return chunk.finish();
}

ChunkProgram ChunkBuilder::single(Pass pass, int stage) const {
  const std::vector<LayerKind>& layers = plan_.pipeline_layout[static_cast<std::size_t>(stage)];
  Assembly chunk;
  int last = -1;
  for (std::size_t i = 0; i < layers.size(); ++i) {
    const LayerKind kind = pass == Pass::kForward ? layers[i] : layers[layers.size() - 1 - i];
    const auto run = [&](Phase phase, int after) {
      return chunk.add(pieces_of(kind, phase, false), kind, phase, after);
    };
    if (pass == Pass::kForward) {
      for (const Phase phase : {Phase::kAttentionForward, Phase::kDispatchForward,
                                Phase::kMlpForward, Phase::kCombineForward}) {
        last = run(phase, last);
      }
      continue;
    }
    const bool input = pass != Pass::kBackwardWeight;
    const bool weight = pass != Pass::kBackwardInput;
    if (input) last = run(Phase::kCombineBackward, last);
    if (input) last = run(Phase::kMlpBackward, last);
    if (weight) run(Phase::kMlpWeight, last);
    if (input) last = run(Phase::kDispatchBackward, last);
    if (input) last = run(Phase::kAttentionBackward, last);
    if (weight) run(Phase::kAttentionWeight, last);
  }
  return chunk.finish();
}

}  // namespace pipecast
