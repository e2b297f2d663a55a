/// Floating-point operations that a model needs per token, however they are carried out.
#pragma once

#include <cstdint>

#include "base/units.hpp"
#include "model/arithmetic/gqa_model.hpp"
#include "model/specs/model.hpp"

namespace pipecast {

/// Which part of the attention matrix counts.
enum class AttentionCount {
  kCausal,  ///< the lower triangle, seq_length / 2 keys per query on average
  kFull,    ///< all seq_length keys, as Megatron-LM's formula has it
};

/// Whether the MTP modules (projection, layer and their use of the head) count.
enum class MtpCount { kExcluded, kIncluded };

/// Backward costs two products per forward product: one for the input's and one for the weight's
/// gradient.
inline constexpr double kTrainingOverForward = 3.0;

/// FLOP of the forward pass for one token at sequence length `seq_length`: 2 per activated weight
/// of the layers and one head, plus the attention's two products. Embedding lookup, norms,
/// activations, softmax and routing are left out. Source: the definition behind the MFU of
/// DeepSeek-AI 2025 (arXiv 2505.09343), Table 2.
/// @throws Error if seq_length is not positive
Flops forward_flops_per_token(const ModelSpec& model, std::int64_t seq_length, AttentionCount count,
                              MtpCount mtp = MtpCount::kExcluded);

/// FLOP of forward and backward, without recomputation.
Flops training_flops_per_token(const ModelSpec& model, std::int64_t seq_length,
                               AttentionCount count, MtpCount mtp = MtpCount::kExcluded);

/// Forward and backward of layers and head, counted as for ModelSpec.
Flops training_flops_per_token(const GqaModel& model, std::int64_t seq_length,
                               AttentionCount count);

}  // namespace pipecast
