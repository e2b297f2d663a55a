#include "sim/gpu/chunk_kernels.hpp"

#include <algorithm>
#include <utility>

namespace pipecast {

std::string_view name_of(ChunkKind kind) {
  static constexpr std::string_view kNames[kChunkKinds] = {"forward", "backward", "backward-input",
                                                           "backward-weight", "overlapped"};
  return kNames[static_cast<std::size_t>(kind)];
}

namespace {

bool is_weight_phase(Phase phase) {
  return phase == Phase::kMlpWeight || phase == Phase::kAttentionWeight;
}

bool is_forward_phase(Phase phase) {
  return phase == Phase::kAttentionForward || phase == Phase::kDispatchForward ||
         phase == Phase::kMlpForward || phase == Phase::kCombineForward;
}

/// Phases of one layer in launch order where nothing else runs.
std::vector<Phase> phases_of(ChunkKind kind) {
  switch (kind) {
    case ChunkKind::kForward:
      return {Phase::kAttentionForward, Phase::kDispatchForward, Phase::kMlpForward,
              Phase::kCombineForward};
    case ChunkKind::kBackward:
      return {Phase::kCombineBackward,  Phase::kMlpBackward,       Phase::kMlpWeight,
              Phase::kDispatchBackward, Phase::kAttentionBackward, Phase::kAttentionWeight};
    case ChunkKind::kBackwardInput:
      return {Phase::kCombineBackward, Phase::kMlpBackward, Phase::kDispatchBackward,
              Phase::kAttentionBackward};
    case ChunkKind::kBackwardWeight:
      return {Phase::kMlpWeight, Phase::kAttentionWeight};
    case ChunkKind::kOverlapped:
      break;
  }
  return {};
}

}  // namespace

/// Puts phases one after another and remembers who waits for whom.
class ChunkKernels::Assembly {
 public:
  explicit Assembly(const PlanSpec& plan) : plan_(plan) {}

  /// Appends a phase whose first launches wait for `after`, and returns the launch that what needs
  /// the phase waits for: its last, or `after` if it is empty.
  std::int32_t add(const std::vector<Operation>& operations,
                   const std::vector<std::int32_t>& kernels, LayerKind kind, Phase phase,
                   std::size_t layer, std::int32_t after) {
    std::int32_t last = after;
    std::int32_t fork = after;  // what the side stream waits for
    std::int32_t side = -1;     // its last launch, until somebody waits for it
    for (std::size_t i = 0; i < operations.size(); ++i) {
      Launch launch{.kernel = kernels[i],
                    .stream = stream_of(operations[i]),
                    .phase = phase,
                    .kind = kind,
                    .layer = static_cast<std::int16_t>(layer)};
      const auto index = static_cast<std::int32_t>(launches_.size());
      const bool joins = !same_gradients(operations, i);
      if (joins) fork = last;
      if (launch.stream == Stream::kSide) {
        launch.after[0] = fork;
        side = index;
      } else {
        launch.after[0] = last;
        if (joins) launch.after[1] = std::exchange(side, -1);
        last = index;
      }
      launches_.push_back(launch);
    }
    return last;
  }

  std::vector<Launch> take() { return std::move(launches_); }

 private:
  [[nodiscard]] Stream stream_of(const Operation& operation) const {
    if (operation.stream == Stream::kSide && plan_.overlap.weight_gradient_streams < 2) {
      return Stream::kCompute;
    }
    if (operation.stream == Stream::kCommunication && !plan_.overlap.communication) {
      return Stream::kCompute;
    }
    return operation.stream;
  }

  /// Whether an operation is one more expert's gradient of the same matrix as the one before it.
  static bool same_gradients(const std::vector<Operation>& operations, std::size_t i) {
    return i > 0 && operations[i].op == operations[i - 1].op &&
           operations[i].label == operations[i - 1].label;
  }

  const PlanSpec& plan_;
  std::vector<Launch> launches_;
};

ChunkKernels::ChunkKernels(const Scenario& scenario, const PlanSpec& plan,
                           const RoutingStatistics& routing)
    : scenario_(scenario),
      plan_(plan),
      balanced_(balanced_load(scenario.model, plan, scenario.recipe.seq_length)),
      table_(scenario, plan, routing) {}

const LayerOperations& ChunkKernels::operations(LayerKind kind) {
  const auto known = operations_.find(kind);
  if (known != operations_.end()) return known->second;
  return operations_.emplace(kind, layer_operations(scenario_.model, plan_, kind, balanced_))
      .first->second;
}

bool ChunkKernels::splits(ChunkKind chunk, Phase phase) const {
  if (!plan_.overlap.communication || plan_.ep == 1) return false;
  return chunk == ChunkKind::kOverlapped ||
         (chunk == ChunkKind::kBackward && is_weight_phase(phase));
}

std::vector<std::int32_t> ChunkKernels::kernels_of(const std::vector<Operation>& operations,
                                                   bool split) {
  std::vector<std::int32_t> out;
  out.reserve(operations.size());
  for (const Operation& operation : operations) out.push_back(table_.add(operation, split));
  return out;
}

std::vector<Launch> ChunkKernels::launches(LayerKind kind, Phase phase, ChunkKind chunk,
                                           const LayerLoad& load) {
  Assembly assembly(plan_);
  const LayerOperations layer = layer_operations(scenario_.model, plan_, kind, load);
  const std::vector<Operation>& list = layer.at(phase);
  assembly.add(list, kernels_of(list, splits(chunk, phase)), kind, phase, 0, -1);
  return assembly.take();
}

std::vector<Launch> ChunkKernels::launches(const ChunkShape& chunk) {
  const bool pair = chunk.kind == ChunkKind::kOverlapped;
  const bool forward = pair || chunk.kind == ChunkKind::kForward;
  const bool backward = chunk.kind != ChunkKind::kForward;
  const std::size_t f_layers = forward ? chunk.forward.size() : 0;
  const std::size_t b_layers = backward ? chunk.backward.size() : 0;
  const std::vector<Phase> order =
      pair ? std::vector<Phase>(plan_.overlap.order.begin(), plan_.overlap.order.end())
           : phases_of(chunk.kind);

  Assembly assembly(plan_);
  std::int32_t f = -1;  // what the next phase of the forward waits for
  std::int32_t b = -1;
  const auto run = [&](Phase phase, std::size_t layer) {
    const bool of_forward = is_forward_phase(phase);
    const std::size_t layers = of_forward ? f_layers : b_layers;
    if (layer >= layers) return;
    // A backward goes through the layers from the last to the first.
    const std::size_t position = of_forward ? layer : layers - 1 - layer;
    const LayerKind kind = (of_forward ? chunk.forward : chunk.backward)[position];
    const std::vector<LayerLoad>& loads = of_forward ? chunk.forward_loads : chunk.backward_loads;
    const bool split = splits(chunk.kind, phase);
    std::int32_t& chain = of_forward ? f : b;
    std::int32_t last = -1;
    if (loads.empty()) {
      const std::vector<Operation>& list = operations(kind).at(phase);
      auto& kernels = kernels_[{kind, phase, split}];
      if (kernels.size() != list.size()) kernels = kernels_of(list, split);
      last = assembly.add(list, kernels, kind, phase, layer, chain);
    } else {
      const LayerOperations own = layer_operations(scenario_.model, plan_, kind, loads[position]);
      const std::vector<Operation>& list = own.at(phase);
      last = assembly.add(list, kernels_of(list, split), kind, phase, layer, chain);
    }
    if (!is_weight_phase(phase)) chain = last;
  };
  for (std::size_t layer = 0; layer < std::max(f_layers, b_layers); ++layer) {
    for (const Phase phase : order) run(phase, layer);
  }
  return assembly.take();
}

}  // namespace pipecast
