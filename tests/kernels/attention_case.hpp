#pragma once

/// Sequences for the attention kernels and what the FP64 reference makes of them.
#include <algorithm>
#include <limits>

#include "kernels/attention/sequences.hpp"
#include "kernels/reference/attention.hpp"
#include "run.hpp"

namespace pipecast::kernels::testing {

/// A sequence has `queries` queries, the last of its `keys` keys.
struct AttentionLengths {
  int queries;
  int keys;
};

inline reference::Matrix as_matrix(const Buffer<Bf16>& values, int rows) {
  const auto columns = static_cast<reference::Index>(values.size()) / std::max(rows, 1);
  reference::Matrix out(rows, columns);
  for (reference::Index i = 0; i < out.size(); ++i) {
    out.data()[i] = static_cast<double>(to_float(values[static_cast<std::size_t>(i)]));
  }
  return out;
}

class AttentionInputs {
 public:
  /// @param deviation  of queries and keys; logits then have that of its square
  AttentionInputs(const std::vector<AttentionLengths>& lengths, int heads, bool causal,
                  float deviation = 1.0F)
      : lengths_(lengths), heads_(heads), causal_(causal) {
    std::vector<int> queries{0};
    std::vector<int> keys{0};
    for (const AttentionLengths& each : lengths) {
      queries.push_back(queries.back() + each.queries);
      keys.push_back(keys.back() + each.keys);
    }
    first_query = Buffer<int>(queries);
    first_key = Buffer<int>(keys);
    query = values(total_queries(), kQueryKeyWidth, 1, deviation);
    key = values(total_keys(), kQueryKeyWidth, 2, deviation);
    value = values(total_keys(), kValueWidth, 3, 1.0F);
    output_gradient = values(total_queries(), kValueWidth, 4, 1.0F);
  }

  int heads() const { return heads_; }
  int total_queries() const { return first_query[lengths_.size()]; }
  int total_keys() const { return first_key[lengths_.size()]; }
  const std::vector<AttentionLengths>& lengths() const { return lengths_; }

  AttentionSequences sequences() const {
    AttentionSequences all{};
    all.first_query = first_query.data();
    all.first_key = first_key.data();
    all.sequences = static_cast<int>(lengths_.size());
    all.heads = heads_;
    all.queries = total_queries();
    all.keys = total_keys();
    for (const AttentionLengths& each : lengths_) {
      all.longest_queries = std::max(all.longest_queries, each.queries);
      all.longest_keys = std::max(all.longest_keys, each.keys);
    }
    all.scale = static_cast<float>(scale());
    all.causal = causal_;
    return all;
  }
  static double scale() { return 1 / std::sqrt(static_cast<double>(kQueryKeyWidth)); }

  /// Rows of one sequence as the reference wants them, with as many queries as keys: those that the
  /// kernel does not have are zero and stand before its own; those that see no key are left out.
  struct Aligned {
    reference::AttentionCase shape;
    reference::AttentionTensors tensors;
    reference::Matrix output_gradient;
    int left_out;     // queries at the front that see no key
    int put_in;       // queries at the front that the kernel does not have
    int first_query;  // rows of the tensors
    int first_key;
  };
  Aligned aligned(std::size_t sequence) const {
    const auto [queries, keys] = lengths_[sequence];
    const int own = std::min(queries, keys);
    Aligned out{};
    out.left_out = queries - own;
    out.put_in = keys - own;
    out.first_query = first_query[sequence];
    out.first_key = first_key[sequence];
    out.shape = {.heads = heads_,
                 .query_key_width = kQueryKeyWidth,
                 .value_width = kValueWidth,
                 .scale = scale(),
                 .causal = causal_,
                 .cumulative_lengths = {0, keys}};
    const auto padded = [&](const Buffer<Bf16>& values, int width) {
      reference::Matrix all = reference::Matrix::Zero(keys, heads_ * width);
      all.bottomRows(own) =
          as_matrix(values, total_queries()).middleRows(out.first_query + out.left_out, own);
      return all;
    };
    out.tensors.query = padded(query, kQueryKeyWidth);
    out.output_gradient = padded(output_gradient, kValueWidth);
    out.tensors.key = as_matrix(key, total_keys()).middleRows(out.first_key, keys);
    out.tensors.value = as_matrix(value, total_keys()).middleRows(out.first_key, keys);
    return out;
  }

  Buffer<int> first_query;
  Buffer<int> first_key;
  Buffer<Bf16> query;
  Buffer<Bf16> key;
  Buffer<Bf16> value;
  Buffer<Bf16> output_gradient;

 private:
  Buffer<Bf16> values(int rows, int width, std::uint64_t seed, float deviation) const {
    return as_bf16(normal_values(static_cast<std::size_t>(rows) * static_cast<std::size_t>(heads_) *
                                     static_cast<std::size_t>(width),
                                 seed, deviation));
  }

  std::vector<AttentionLengths> lengths_;
  int heads_;
  bool causal_;
};

/// What the reference expects of attention_fwd, and how far the formats let a kernel be from it.
struct AttentionExpected {
  reference::Matrix output;
  reference::Matrix log_sum_exp;  // queries x heads
  /// Sum of weights times absolute values: each weight is rounded to BF16 before the product with
  /// the values, and the result once more, each time by at most 2^-8 of itself.
  reference::Matrix magnitude;
};
inline AttentionExpected expected_attention(const AttentionInputs& inputs) {
  const int queries = inputs.total_queries();
  const reference::Index width = inputs.heads() * kValueWidth;
  AttentionExpected out{reference::Matrix::Zero(queries, width),
                        reference::Matrix::Constant(queries, inputs.heads(),
                                                    -std::numeric_limits<double>::infinity()),
                        reference::Matrix::Zero(queries, width)};
  for (std::size_t i = 0; i < inputs.lengths().size(); ++i) {
    if (inputs.lengths()[i].keys == 0) continue;
    auto aligned = inputs.aligned(i);
    const int own = inputs.lengths()[i].queries - aligned.left_out;
    const int first = aligned.first_query + aligned.left_out;
    const auto result = attention_forward(aligned.shape, aligned.tensors);
    out.output.middleRows(first, own) = result.output.bottomRows(own);
    out.log_sum_exp.middleRows(first, own) = result.log_sum_exp.bottomRows(own);
    aligned.tensors.value = aligned.tensors.value.cwiseAbs().eval();
    out.magnitude.middleRows(first, own) =
        attention_forward(aligned.shape, aligned.tensors).output.bottomRows(own);
  }
  return out;
}

}  // namespace pipecast::kernels::testing
