/// What a layer does in a training step, in the order in which things depend on one another.
#pragma once

#include <cstdint>
#include <optional>
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

/// The phase of the same layer and pass that must have run before; with it, all that it needs.
constexpr std::optional<Phase> needed_before(Phase phase) {
  switch (phase) {
    case Phase::kAttentionForward:
    case Phase::kCombineBackward:
      return std::nullopt;
    case Phase::kDispatchForward:
      return Phase::kAttentionForward;
    case Phase::kMlpForward:
      return Phase::kDispatchForward;
    case Phase::kCombineForward:
      return Phase::kMlpForward;
    case Phase::kMlpBackward:
      return Phase::kCombineBackward;
    case Phase::kDispatchBackward:
    case Phase::kMlpWeight:
      return Phase::kMlpBackward;
    case Phase::kAttentionBackward:
      return Phase::kDispatchBackward;
    case Phase::kAttentionWeight:
      return Phase::kAttentionBackward;
  }
  return std::nullopt;
}

}  // namespace pipecast
