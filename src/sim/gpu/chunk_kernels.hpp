/// The kernels of a chunk: what one GPU launches for one micro-batch on one stage, or for the
/// forward of one and the backward of another, in launch order on its streams.
#pragma once

#include <map>
#include <vector>

#include "model/operations/layer_operations.hpp"
#include "sim/gpu/timeline.hpp"

namespace pipecast {

enum class ChunkKind : std::uint8_t {
  kForward,
  kBackward,        ///< both gradients
  kBackwardInput,   ///< the input's gradient alone
  kBackwardWeight,  ///< the weights' gradients alone
  kOverlapped,      ///< a forward and a full backward, mutually overlapped
};
inline constexpr int kChunkKinds = 5;

/// "forward", "backward", "backward-input", "backward-weight", "overlapped".
std::string_view name_of(ChunkKind kind);

/// Layers of the passes of a chunk, in the order in which a forward goes through them. A pass that
/// the chunk has not is ignored.
struct ChunkShape {
  ChunkKind kind{};
  std::vector<LayerKind> forward;
  std::vector<LayerKind> backward;  ///< of all kinds but kForward
  /// One per layer, in the order of `forward` and `backward`; empty: balanced.
  std::vector<LayerLoad> forward_loads{};
  std::vector<LayerLoad> backward_loads{};
  /// Pipeline ranks that hold a pass's stage: its shards are spread over the replicas of them all.
  int forward_holders = 1;
  int backward_holders = 1;
};

/// One phase of one layer in a chunk.
struct ChunkPhase {
  Phase phase{};
  LayerKind kind{};
  std::size_t layer = 0;            ///< in the order in which its pass goes through them
  const LayerLoad* load = nullptr;  ///< none: balanced
  bool forward = false;             ///< which pass it belongs to; forward phases that the backward
                                    ///< pass runs again are the backward pass's
  bool weight = false;              ///< nothing in the chunk waits for it
};

/// The phases of a chunk in launch order. A pair: the forward's layers and the backward's layers
/// are paired in the order in which each pass goes through them, first with first, each pair's
/// phases in the plan's order; what is left of the longer one runs alone. A full backward: the
/// weight gradients of the MLP follow its input gradient, so that they run beside the exchange.
/// Full recomputation: input gradients of a layer come after its forward phases, run again; in a
/// pair these stand before all of the two layers.
/// @param chunk  outlives what is returned
std::vector<ChunkPhase> phases_of(const ChunkShape& chunk, const PlanSpec& plan);

/// A layer of a chunk as its tasks count it: the forward's from 0, then the backward's, both in the
/// order in which a forward goes through them.
/// @param forward  which pass it belongs to
/// @param layer    in the order in which its pass goes through them
int slot_of(const ChunkShape& chunk, bool forward, std::size_t layer);

/// Who waits for whom while a chunk is put together: a phase for the one before it in its pass, a
/// weight gradient for the input gradient of the same layers. Counts launches or tasks; -1: nobody.
class ChunkChains {
 public:
  [[nodiscard]] int before(const ChunkPhase& phase) const {
    if (phase.phase == Phase::kMlpWeight) return mlp_;
    if (phase.phase == Phase::kAttentionWeight) return attention_;
    return pass_[phase.forward];
  }
  void add(const ChunkPhase& phase, int last) {
    if (phase.weight) return;
    pass_[phase.forward] = last;
    if (phase.phase == Phase::kMlpBackward) mlp_ = last;
    if (phase.phase == Phase::kAttentionBackward) attention_ = last;
  }

 private:
  std::array<int, 2> pass_ = {-1, -1};
  int mlp_ = -1;
  int attention_ = -1;
};

/// Whether matrix products of a phase leave the plan's communication SMs free: where an exchange
/// may run beside them, in overlapped pairs and in the weight gradients of a full backward.
bool splits_sms(ChunkKind chunk, Phase phase, const PlanSpec& plan);

/// Whether an operation is a cast before a transfer that an engine beside the SMs carries out: no
/// SMs are left for it beside computation, so that it takes its turn there.
bool is_cast_of_engine(const Operation& operation, const PlanSpec& plan);

/// Turns chunks of one plan into launches.
///
/// Streams: computation on one; dispatch, combine and what belongs to them on another, if the plan
/// overlaps communication; the experts' weight gradients on two in turn, if it says so.
class ChunkKernels {
 public:
  /// @param scenario, plan  must outlive this and not change
  /// @param peers_late      as KernelTable
  ChunkKernels(const Scenario& scenario, const PlanSpec& plan, const RoutingStatistics& routing,
               Duration peers_late = {});

  /// @throws Error for operations that the GPU cannot run
  std::vector<Launch> launches(const ChunkShape& chunk);

  /// One phase of one layer by itself.
  std::vector<Launch> launches(LayerKind kind, Phase phase, bool split, const LayerLoad& load);

  [[nodiscard]] KernelTable& table() { return table_; }
  [[nodiscard]] const LayerLoad& balanced() const { return balanced_; }
  /// Balanced, as the chunk's layers have it.
  [[nodiscard]] const LayerOperations& operations(LayerKind kind);

 private:
  class Assembly;

  /// Kernels of a phase in their order.
  std::vector<std::int32_t> kernels_of(const std::vector<Operation>& operations, bool split);

  const Scenario& scenario_;
  const PlanSpec& plan_;
  LayerLoad balanced_;
  KernelTable table_;
  std::map<LayerKind, LayerOperations> operations_;
  std::map<std::tuple<LayerKind, Phase, bool>, std::vector<std::int32_t>> kernels_;  // balanced
};

}  // namespace pipecast
