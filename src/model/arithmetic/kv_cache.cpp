#include "model/arithmetic/kv_cache.hpp"

namespace pipecast {

Bytes kv_cache_per_token(const ModelSpec& m, std::int64_t bytes_per_element) {
  return Bytes(m.num_hidden_layers * (m.kv_lora_rank + m.qk_rope_head_dim) * bytes_per_element);
}

Bytes kv_cache_per_token(const GqaModel& m, std::int64_t bytes_per_element) {
  return Bytes(2 * m.layers * m.kv_heads * m.head_dim * bytes_per_element);
}

}  // namespace pipecast
