#include "model/arithmetic/kv_cache.hpp"

#include "base/error.hpp"

namespace pipecast {

namespace {

constexpr std::int64_t kBf16Bytes = 2;
constexpr std::int64_t kScaleElements = 128;  // of the latent vector that share an FP8 scale
constexpr std::int64_t kScaleBytes = 4;       // FP32

void require_cache_precision(Precision precision) {
  require(precision == Precision::kBf16 || precision == Precision::kFp8,
          "a KV cache is kept in bf16 or fp8, not {}", name_of(precision));
}

Bytes elements(std::int64_t count, Precision precision) {
  require_cache_precision(precision);
  return Bytes(count * (precision == Precision::kFp8 ? 1 : kBf16Bytes));
}

}  // namespace

Bytes kv_cache_per_token(const ModelSpec& m, Precision precision) {
  require_cache_precision(precision);
  const std::int64_t scales = ceil_div(m.kv_lora_rank, kScaleElements) * kScaleBytes;
  const std::int64_t latent =
      precision == Precision::kFp8 ? m.kv_lora_rank + scales : m.kv_lora_rank * kBf16Bytes;
  return Bytes(m.num_hidden_layers * (latent + m.qk_rope_head_dim * kBf16Bytes));
}

Bytes kv_cache_per_token(const GqaModel& m, Precision precision) {
  return elements(2 * m.layers * m.kv_heads * m.head_dim, precision);
}

Bytes multi_head_kv_cache_per_token(const ModelSpec& m, Precision precision) {
  return elements(m.num_hidden_layers * m.num_attention_heads * (m.qk_head_dim() + m.v_head_dim),
                  precision);
}

}  // namespace pipecast
