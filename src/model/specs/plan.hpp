/// How a model is laid over a cluster and trained there. Keys follow Megatron-LM where it has the
/// notion.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/units.hpp"
#include "model/schedules/schedule.hpp"
#include "model/specs/phase.hpp"
#include "model/specs/precision.hpp"

namespace pipecast {

/// What a pipeline stage is made of.
enum class LayerKind { kEmbedding, kDense, kMoe, kMtp, kHead };

constexpr std::string_view name_of(LayerKind kind) {
  switch (kind) {
    case LayerKind::kEmbedding:
      return "embedding";
    case LayerKind::kDense:
      return "dense";
    case LayerKind::kMoe:
      return "moe";
    case LayerKind::kMtp:
      return "mtp";
    case LayerKind::kHead:
      return "head";
  }
  return "";
}

/// Layers of every stage in the order a micro-batch passes them: [stage][position].
using PipelineLayout = std::vector<std::vector<LayerKind>>;

/// Which intermediate results are computed again in the backward pass instead of being kept.
struct RecomputeSpec {
  bool full = false;         ///< whole layers: their inputs alone are kept
  bool layernorm = false;    ///< outputs of RMSNorm
  bool mla_up_proj = false;  ///< outputs of the MLA up-projections
  bool moe_act = false;      ///< outputs of SwiGLU
  bool core_attn = false;    ///< output and statistics of the attention proper
};

struct PrecisionSpec {
  Precision gemm = Precision::kFp8;      ///< linear layers: fp8-block or bf16
  Precision dispatch = Precision::kFp8;  ///< tokens on their way to the experts
  Precision combine = Precision::kBf16;  ///< expert outputs on their way back
  std::optional<Precision> activations;  ///< inputs of linear layers and of SwiGLU as kept for
                                         ///< backward; none: as the products read them
  Precision attention_output = Precision::kE5m6;  ///< as kept for backward
  Precision moments = Precision::kBf16;           ///< AdamW's two moments
  Precision master_weights = Precision::kFp32;
  Precision gradients = Precision::kFp32;          ///< accumulation and reduction
  Precision parameter_gather = Precision::kBf16;   ///< all-gather after the optimizer
  Precision pipeline_transfer = Precision::kBf16;  ///< activations and gradients between stages
};

/// How the kernels of a chunk are put on streams.
struct OverlapSpec {
  bool communication = true;        ///< dispatch and combine run beside computation, on a stream of
                                    ///< their own; false: every kernel has the GPU for itself
  int weight_gradient_streams = 2;  ///< on which the experts' weight gradients take turns: 1 or 2
  /// Launch order of an overlapped pair, layer by layer: every phase once, none before one of its
  /// own pass that it needs. Default: as the H800 trace launches them.
  std::array<Phase, kPhases> order = {Phase::kCombineBackward,   Phase::kAttentionForward,
                                      Phase::kDispatchForward,   Phase::kMlpBackward,
                                      Phase::kMlpWeight,         Phase::kDispatchBackward,
                                      Phase::kMlpForward,        Phase::kCombineForward,
                                      Phase::kAttentionBackward, Phase::kAttentionWeight};
};

/// Where something that the optimizer needs once a step lives.
enum class MemoryPlace : std::uint8_t { kNowhere, kDevice, kHost };

/// What is kept besides the step's own tensors, and what is not for them to use.
struct MemoryPlanSpec {
  /// Of what the device shows, not for tensors: the CUDA context, the rings of NCCL and DeepEP, and
  /// what the allocator cannot use.
  Bytes reserve = Bytes(4'000'000'000);
  MemoryPlace ema = MemoryPlace::kNowhere;  ///< moving average of the parameters, FP32
  /// Master weights and moments; from the host they pass through the GPU once a step.
  MemoryPlace optimizer = MemoryPlace::kDevice;
};

struct PlanSpec {
  int tp = 1;
  int cp = 1;
  int pp = 1;
  int ep = 1;
  int zero_stage = 0;
  std::string schedule;                 ///< a kind, or "file:PATH"
  std::optional<int> activation_limit;  ///< most live chunks on a rank, for a searched schedule
  std::optional<int> vpp;          ///< virtual stages per rank; none: the schedule's own number
  std::string fallback_schedule;   ///< used where `schedule` cannot run with the step's
                                   ///< micro-batches; may be empty
  int micro_batch_size = 1;        ///< sequences
  int communication_sms = 0;       ///< SMs of the dispatch and combine kernels while they run; 0:
                                   ///< an engine beside the SMs moves the tokens
  PipelineLayout pipeline_layout;  ///< resolved: pp x stages_per_rank() stages
  RecomputeSpec recompute;
  OverlapSpec overlap;
  PrecisionSpec precision;
  MemoryPlanSpec memory;
  /// What the file of `schedule` holds. Shared, because plans are copied for every variation of a
  /// scenario and nobody changes it.
  std::shared_ptr<const Schedule> schedule_from_file;
};

}  // namespace pipecast
