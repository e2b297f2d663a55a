#include "model/arithmetic/flops.hpp"

#include "base/error.hpp"
#include "model/arithmetic/parameters.hpp"

namespace pipecast {

namespace {

constexpr double kFlopsPerMultiplyAdd = 2.0;

double keys_per_query(std::int64_t seq_length, AttentionCount count) {
  require(seq_length > 0, "seq_length must be positive: {}", seq_length);
  const double full = static_cast<double>(seq_length);
  return count == AttentionCount::kCausal ? full / 2 : full;
}

/// One query against its keys in one layer: scores and weighted values.
double attention_multiply_adds(const ModelSpec& m, double keys) {
  return keys * static_cast<double>(m.num_attention_heads * (m.qk_head_dim() + m.v_head_dim));
}

}  // namespace

Flops forward_flops_per_token(const ModelSpec& m, std::int64_t seq_length, AttentionCount count,
                              MtpCount mtp) {
  const ParameterCount p = count_parameters(m);
  const double attention = attention_multiply_adds(m, keys_per_query(seq_length, count));
  double sum = static_cast<double>(p.activated_without_embedding) +
               static_cast<double>(m.num_hidden_layers) * attention;
  if (mtp == MtpCount::kIncluded) {
    const std::int64_t projection = 2 * m.hidden_size * m.hidden_size;
    sum += static_cast<double>(m.num_nextn_predict_layers) *
           (static_cast<double>(projection + p.moe_layer_activated + p.head) + attention);
  }
  return Flops(kFlopsPerMultiplyAdd * sum);
}

Flops training_flops_per_token(const ModelSpec& m, std::int64_t seq_length, AttentionCount count,
                               MtpCount mtp) {
  return kTrainingOverForward * forward_flops_per_token(m, seq_length, count, mtp);
}

Flops training_flops_per_token(const GqaModel& m, std::int64_t seq_length, AttentionCount count) {
  const std::int64_t attention = m.hidden_size * m.head_dim * (2 * m.heads + 2 * m.kv_heads);
  const std::int64_t ffn = 3 * m.hidden_size * m.intermediate_size;
  const double scores =
      keys_per_query(seq_length, count) * static_cast<double>(2 * m.heads * m.head_dim);
  const double layer = static_cast<double>(attention + ffn) + scores;
  const double head = static_cast<double>(m.hidden_size * m.vocab_size);
  return Flops(kTrainingOverForward * kFlopsPerMultiplyAdd *
               (static_cast<double>(m.layers) * layer + head));
}

}  // namespace pipecast
