/// What decoding keeps per token and sequence.
#pragma once

#include <cstdint>

#include "base/units.hpp"
#include "model/arithmetic/gqa_model.hpp"
#include "model/specs/model.hpp"
#include "model/specs/precision.hpp"

namespace pipecast {

/// Latent attention keeps one compressed vector and one rotary key per layer, whatever the number
/// of heads. BF16: layers * (kv_lora_rank + qk_rope_head_dim) elements (DeepSeek-AI 2025, arXiv
/// 2505.09343, Table 1). FP8: the vector in E4M3 with an FP32 scale per 128 elements, the rotary
/// key in BF16, 656 bytes a layer for DeepSeek-V3's 512 + 64 (FlashMLA,
/// docs/20250929-hopper-fp8-sparse-deep-dive.md).
/// @throws Error for a precision other than BF16 and FP8
Bytes kv_cache_per_token(const ModelSpec& model, Precision precision = Precision::kBf16);

/// A key and a value per layer and key-value head; multi-head attention has as many of these as
/// heads. FP8: a byte an element; its scales are per tensor or head, none per token.
/// @throws Error for a precision other than BF16 and FP8
Bytes kv_cache_per_token(const GqaModel& model, Precision precision = Precision::kBf16);

/// What the heads of a model with latent attention would keep if they were ordinary multi-head
/// attention: keys of qk_nope_head_dim + qk_rope_head_dim, values of v_head_dim.
/// @throws Error for a precision other than BF16 and FP8
Bytes multi_head_kv_cache_per_token(const ModelSpec& model, Precision precision = Precision::kBf16);

}  // namespace pipecast
