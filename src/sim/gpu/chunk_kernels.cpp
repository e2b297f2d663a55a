#include "sim/gpu/chunk_kernels.hpp"

#include <algorithm>
#include <array>
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

constexpr std::array kForwardPhases = {Phase::kAttentionForward, Phase::kDispatchForward,
                                       Phase::kMlpForward, Phase::kCombineForward};

/// Phases of one layer in launch order.
std::vector<Phase> phases_of_layer(ChunkKind kind, const PlanSpec& plan) {
  switch (kind) {
    case ChunkKind::kForward:
      return {kForwardPhases.begin(), kForwardPhases.end()};
    case ChunkKind::kBackward:
      return {Phase::kCombineBackward,  Phase::kMlpBackward,       Phase::kMlpWeight,
              Phase::kDispatchBackward, Phase::kAttentionBackward, Phase::kAttentionWeight};
    case ChunkKind::kBackwardInput:
      return {Phase::kCombineBackward, Phase::kMlpBackward, Phase::kDispatchBackward,
              Phase::kAttentionBackward};
    case ChunkKind::kBackwardWeight:
      return {Phase::kMlpWeight, Phase::kAttentionWeight};
    case ChunkKind::kOverlapped:
      return {plan.overlap.order.begin(), plan.overlap.order.end()};
  }
  return {};
}

/// Whether a layer's input gradients begin with its forward, run again. The lookup of an embedding
/// has no input gradient.
bool runs_again(ChunkKind chunk, LayerKind layer, const PlanSpec& plan) {
  return plan.recompute.full && layer != LayerKind::kEmbedding &&
         (chunk == ChunkKind::kBackward || chunk == ChunkKind::kBackwardInput ||
          chunk == ChunkKind::kOverlapped);
}

/// A pass of a chunk: its layers in the order in which it goes through them.
struct LayerPass {
  std::vector<LayerKind> layers;
  std::vector<const LayerLoad*> loads;

  LayerPass(bool there, const std::vector<LayerKind>& kinds, const std::vector<LayerLoad>& given,
            bool reversed) {
    if (!there) return;
    PIPECAST_ASSERT(given.empty() || given.size() == kinds.size());
    layers = kinds;
    for (std::size_t i = 0; i < kinds.size(); ++i)
      loads.push_back(given.empty() ? nullptr : &given[i]);
    if (!reversed) return;
    std::reverse(layers.begin(), layers.end());
    std::reverse(loads.begin(), loads.end());
  }

  [[nodiscard]] ChunkPhase at(std::size_t layer, Phase phase, bool forward) const {
    return {.phase = phase,
            .kind = layers[layer],
            .layer = layer,
            .load = loads[layer],
            .forward = forward,
            .weight = is_weight_phase(phase)};
  }
};

}  // namespace

std::vector<ChunkPhase> phases_of(const ChunkShape& chunk, const PlanSpec& plan) {
  const bool pair = chunk.kind == ChunkKind::kOverlapped;
  const LayerPass forward(pair || chunk.kind == ChunkKind::kForward, chunk.forward,
                          chunk.forward_loads, false);
  const LayerPass backward(chunk.kind != ChunkKind::kForward, chunk.backward, chunk.backward_loads,
                           true);
  const std::vector<Phase> order = phases_of_layer(chunk.kind, plan);
  std::vector<ChunkPhase> out;
  for (std::size_t layer = 0; layer < std::max(forward.layers.size(), backward.layers.size());
       ++layer) {
    if (layer < backward.layers.size() && runs_again(chunk.kind, backward.layers[layer], plan)) {
      for (const Phase phase : kForwardPhases) out.push_back(backward.at(layer, phase, false));
    }
    for (const Phase phase : order) {
      const bool of_forward = is_forward_phase(phase);
      const LayerPass& pass = of_forward ? forward : backward;
      if (layer < pass.layers.size()) out.push_back(pass.at(layer, phase, of_forward));
    }
  }
  return out;
}

bool is_cast_of_engine(const Operation& operation, const PlanSpec& plan) {
  return operation.stream == Stream::kCommunication && plan.communication_sms == 0 &&
         operation.op.substr(0, 3) != "ep_";
}

int slot_of(const ChunkShape& chunk, bool forward, std::size_t layer) {
  const bool pair = chunk.kind == ChunkKind::kOverlapped;
  const std::size_t first = pair && !forward ? chunk.forward.size() : 0;
  const auto& layers = forward ? chunk.forward : chunk.backward;
  return static_cast<int>(first + (forward ? layer : layers.size() - 1 - layer));
}

bool splits_sms(ChunkKind chunk, Phase phase, const PlanSpec& plan) {
  if (!plan.overlap.communication || plan.ep == 1) return false;
  return chunk == ChunkKind::kOverlapped ||
         (chunk == ChunkKind::kBackward && is_weight_phase(phase));
}

/// Puts phases one after another and remembers who waits for whom.
class ChunkKernels::Assembly {
 public:
  explicit Assembly(const PlanSpec& plan) : plan_(plan) {}

  /// Appends a phase whose first launches wait for `after`, and returns the launch that what needs
  /// the phase waits for: its last, or `after` if it is empty.
  std::int32_t add(const std::vector<Operation>& operations,
                   const std::vector<std::int32_t>& kernels, const ChunkPhase& phase,
                   std::int32_t after) {
    std::int32_t last = after;
    std::int32_t fork = after;  // what the side stream waits for
    std::int32_t side = -1;     // its last launch, until somebody waits for it
    for (std::size_t i = 0; i < operations.size(); ++i) {
      Launch launch{.kernel = kernels[i],
                    .stream = stream_of(operations[i]),
                    .phase = phase.phase,
                    .kind = phase.kind,
                    .layer = static_cast<std::int16_t>(phase.layer),
                    .again = is_forward_phase(phase.phase) && !phase.forward};
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
    const bool own = plan_.overlap.communication && !is_cast_of_engine(operation, plan_);
    if (operation.stream == Stream::kCommunication && !own) return Stream::kCompute;
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
                           const RoutingStatistics& routing, Duration peers_late)
    : scenario_(scenario),
      plan_(plan),
      balanced_(balanced_load(scenario.model, plan, scenario.recipe.seq_length)),
      table_(scenario, plan, routing, peers_late) {}

const LayerOperations& ChunkKernels::operations(LayerKind kind) {
  const auto known = operations_.find(kind);
  if (known != operations_.end()) return known->second;
  return operations_.emplace(kind, layer_operations(scenario_.model, plan_, kind, balanced_))
      .first->second;
}

std::vector<std::int32_t> ChunkKernels::kernels_of(const std::vector<Operation>& operations,
                                                   bool split) {
  std::vector<std::int32_t> out;
  out.reserve(operations.size());
  for (const Operation& operation : operations) out.push_back(table_.add(operation, split));
  return out;
}

std::vector<Launch> ChunkKernels::launches(LayerKind kind, Phase phase, bool split,
                                           const LayerLoad& load) {
  Assembly assembly(plan_);
  const LayerOperations layer = layer_operations(scenario_.model, plan_, kind, load);
  const std::vector<Operation>& list = layer.at(phase);
  const ChunkPhase alone{.phase = phase, .kind = kind, .forward = is_forward_phase(phase)};
  assembly.add(list, kernels_of(list, split), alone, -1);
  return assembly.take();
}

std::vector<Launch> ChunkKernels::launches(const ChunkShape& chunk) {
  Assembly assembly(plan_);
  ChunkChains chains;
  for (const ChunkPhase& phase : phases_of(chunk, plan_)) {
    const bool split = splits_sms(chunk.kind, phase.phase, plan_);
    const int before = chains.before(phase);
    if (phase.load == nullptr) {
      const std::vector<Operation>& list = operations(phase.kind).at(phase.phase);
      auto& kernels = kernels_[{phase.kind, phase.phase, split}];
      if (kernels.size() != list.size()) kernels = kernels_of(list, split);
      chains.add(phase, assembly.add(list, kernels, phase, before));
    } else {
      const LayerOperations own = layer_operations(scenario_.model, plan_, phase.kind, *phase.load);
      const std::vector<Operation>& list = own.at(phase.phase);
      chains.add(phase, assembly.add(list, kernels_of(list, split), phase, before));
    }
  }
  return assembly.take();
}

}  // namespace pipecast
