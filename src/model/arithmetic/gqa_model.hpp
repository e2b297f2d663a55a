/// Dense transformers of other families, as far as their costs per token need it.
#pragma once

#include <cstdint>

namespace pipecast {

/// A dense transformer with grouped-query attention and SwiGLU. For comparison with published
/// numbers, not for simulation.
struct GqaModel {
  std::int64_t hidden_size = 0;
  std::int64_t layers = 0;
  std::int64_t heads = 0;
  std::int64_t kv_heads = 0;
  std::int64_t head_dim = 0;
  std::int64_t intermediate_size = 0;
  std::int64_t vocab_size = 0;
};

}  // namespace pipecast
