/// What a layer does in a training step, in the order in which things depend on one another.
#pragma once

#include <cstdint>
#include <string_view>

namespace pipecast {

/// The phases of a layer in one training step, named as in the trace. F: forward, B: input
/// gradient, W: weight gradient. The forward runs attn, dispatch, mlp, combine; the backward
/// combine (a dispatch), mlp, dispatch (a combine), attn. Embedding and head have `mlp` phases
/// only.
enum class Phase : std::uint8_t {
  kAttentionForward,
  kDispatchForward,
  kMlpForward,
  kCombineForward,
  kCombineBackward,
  kMlpBackward,
  kDispatchBackward,
  kAttentionBackward,
  kMlpWeight,
  kAttentionWeight,
};
inline constexpr int kPhases = 10;

/// "attn(F)", "dispatch(F)", ...
constexpr std::string_view name_of(Phase phase) {
  constexpr std::string_view kNames[kPhases] = {
      "attn(F)", "dispatch(F)", "mlp(F)",  "combine(F)", "combine(B)",
      "mlp(B)",  "dispatch(B)", "attn(B)", "mlp(W)",     "attn(W)"};
  return kNames[static_cast<int>(phase)];
}

}  // namespace pipecast
