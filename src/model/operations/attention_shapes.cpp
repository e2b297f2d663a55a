#include "model/operations/attention_shapes.hpp"

#include <algorithm>

namespace pipecast {

namespace {

/// The cache's row of a token: kv_lora_rank 512 and the rotary key's 64 (DeepSeek-V2 and V3). The
/// shape of an attention over decompressed keys does not hold it.
constexpr std::int64_t kLatentWidth = 576;

Bytes bytes(Precision p, std::int64_t elements) {
  return Bytes(static_cast<std::int64_t>(bytes_per_element(p) * static_cast<double>(elements)));
}

/// Latent attention rotates what its queries and keys have more than its values: 192 - 128 where
/// they are decompressed, 576 - 512 where absorbed.
std::int64_t rotary_dim(const AttentionShape& s) {
  return std::max<std::int64_t>(0, s.qk_dim - s.v_dim);
}

/// Elements of all sequences' tensors.
struct Elements {
  explicit Elements(const AttentionShape& s)
      : queries(s.batch * s.queries * s.heads * s.qk_dim),
        keys(s.batch * s.keys * s.kv_heads * s.qk_dim),
        values(s.batch * s.keys * s.kv_heads * s.v_dim),
        outputs(s.batch * s.queries * s.heads * s.v_dim),
        statistics(s.batch * s.queries * s.heads) {}

  std::int64_t queries;
  std::int64_t keys;
  std::int64_t values;
  std::int64_t outputs;
  std::int64_t statistics;
};

double all_pairs(const AttentionShape& s) {
  return static_cast<double>(s.batch * s.heads) * attended_pairs(s);
}

}  // namespace

double attended_pairs(const AttentionShape& s) {
  const auto queries = static_cast<double>(s.queries);
  const auto keys = static_cast<double>(s.keys);
  return s.causal ? queries * (keys - queries) + queries * queries / 2 : queries * keys;
}

Precision operand_precision(const AttentionShape& s) { return s.cache.value_or(Precision::kBf16); }

Bytes prefill_preparation(const AttentionShape& s) {
  if (!s.cache) return Bytes{};
  const std::int64_t rotary = s.batch * s.queries * s.heads * rotary_dim(s);
  const std::int64_t latents = s.batch * s.queries * kLatentWidth;
  Bytes out = bytes(Precision::kBf16, latents) + bytes(*s.cache, latents);
  if (*s.cache == Precision::kFp8) {
    const Elements e(s);
    const std::int64_t operands = e.queries + e.keys + e.values;
    return out + bytes(Precision::kBf16, operands) + bytes(Precision::kFp8, operands);
  }
  return out + bytes(Precision::kBf16, 3 * rotary);
}

Bytes decode_preparation(const AttentionShape& s) {
  if (!s.cache) return Bytes{};
  if (*s.cache == Precision::kFp8) {
    const Elements e(s);
    return bytes(Precision::kBf16, e.queries) + bytes(Precision::kFp8, e.queries);
  }
  return bytes(Precision::kBf16, 2 * s.batch * s.queries * s.heads * rotary_dim(s));
}

Operation attention_forward_operation(const AttentionShape& s) {
  const Elements e(s);
  return {
      .op = "attention_fwd",
      .precision = operand_precision(s),
      .attention = s,
      .flops = Flops(2.0 * all_pairs(s) * static_cast<double>(s.qk_dim + s.v_dim)),
      .read = bytes(operand_precision(s), e.queries + e.keys + e.values) + prefill_preparation(s),
      .written = bytes(Precision::kBf16, e.outputs) + bytes(Precision::kFp32, e.statistics)};
}

Operation attention_backward_operation(const AttentionShape& s) {
  const Elements e(s);
  const Bytes keys_and_values = bytes(Precision::kBf16, e.keys + e.values);
  const Bytes accumulator = bytes(Precision::kFp32, e.queries);
  // Scores, and gradients of queries and keys, over the query width; gradients of probabilities
  // and values over the value width.
  return {.op = "attention_bwd",
          .precision = Precision::kBf16,
          .attention = s,
          .flops = Flops(2.0 * all_pairs(s) * static_cast<double>(3 * s.qk_dim + 2 * s.v_dim)),
          .read = bytes(Precision::kBf16, e.queries + e.outputs) + keys_and_values +
                  bytes(Precision::kFp32, 2 * e.statistics) + accumulator,
          .written = accumulator + keys_and_values};
}

Operation attention_decode_operation(const AttentionShape& s) {
  const Elements e(s);
  return {.op = "attention_decode",
          .precision = operand_precision(s),
          .attention = s,
          .flops = Flops(2.0 * all_pairs(s) * static_cast<double>(s.qk_dim + s.v_dim)),
          .read = bytes(operand_precision(s), e.queries + e.keys) + decode_preparation(s),
          .written = bytes(Precision::kBf16, e.outputs)};
}

}  // namespace pipecast
