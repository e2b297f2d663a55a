/// What decoding keeps per token and sequence.
#pragma once

#include <cstdint>

#include "base/units.hpp"
#include "model/arithmetic/gqa_model.hpp"
#include "model/specs/model.hpp"

namespace pipecast {

inline constexpr std::int64_t kBf16Bytes = 2;

/// Latent attention keeps one compressed vector and one rotary key per layer, whatever the number
/// of heads: layers * (kv_lora_rank + qk_rope_head_dim) elements. Source: DeepSeek-AI 2025 (arXiv
/// 2505.09343), Table 1.
Bytes kv_cache_per_token(const ModelSpec& model, std::int64_t bytes_per_element = kBf16Bytes);

/// A key and a value per layer and key-value head.
Bytes kv_cache_per_token(const GqaModel& model, std::int64_t bytes_per_element = kBf16Bytes);

}  // namespace pipecast
