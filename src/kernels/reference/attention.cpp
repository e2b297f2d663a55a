#include "kernels/reference/attention.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/error.hpp"

namespace pipecast::kernels::reference {
namespace {

struct Probabilities {
  Vector values;
  double log_sum_exp{};
};

/// Softmax by definition, with the largest logit taken out so that no exponential overflows.
Probabilities softmax(const Vector& logits) {
  if (logits.size() == 0) return {{}, -std::numeric_limits<double>::infinity()};
  const double largest = logits.maxCoeff();
  Probabilities out{(logits.array() - largest).exp().matrix()};
  const double sum = out.values.sum();
  out.values /= sum;
  out.log_sum_exp = largest + std::log(sum);
  return out;
}

/// One query of one head, and the keys that it sees.
struct QueryPlace {
  Index row{};
  Index head{};
  Index first_key{};
  Index keys{};
};

Index check(const AttentionCase& shape) {
  require(shape.heads > 0 && shape.query_key_width > 0 && shape.value_width > 0,
          "attention of {} heads, widths {} and {}", shape.heads, shape.query_key_width,
          shape.value_width);
  const Indices& ends = shape.cumulative_lengths;
  require(!ends.empty() && ends.front() == 0 && std::is_sorted(ends.begin(), ends.end()),
          "cumulative lengths must ascend from 0");
  return ends.back();
}

void check(const AttentionCase& shape, const AttentionTensors& inputs) {
  const Index tokens = check(shape);
  require_extents("query", inputs.query, tokens, shape.heads * shape.query_key_width);
  require_extents("key", inputs.key, tokens, shape.heads * shape.query_key_width);
  require_extents("value", inputs.value, tokens, shape.heads * shape.value_width);
}

/// Calls visit(place, probabilities) for every query of every head.
template <class Visit>
void for_each_query(const AttentionCase& shape, const AttentionTensors& inputs, Visit visit) {
  const Index width = shape.query_key_width;
  for (std::size_t i = 0; i + 1 < shape.cumulative_lengths.size(); ++i) {
    const Index begin = shape.cumulative_lengths[i];
    const Index end = shape.cumulative_lengths[i + 1];
    for (Index row = begin; row < end; ++row) {
      const Index keys = (shape.causal ? row + 1 : end) - begin;
      for (Index head = 0; head < shape.heads; ++head) {
        Vector logits(keys);
        for (Index key = 0; key < keys; ++key) {
          logits(key) =
              shape.scale * inputs.query.row(row)
                                .segment(head * width, width)
                                .dot(inputs.key.row(begin + key).segment(head * width, width));
        }
        visit(QueryPlace{row, head, begin, keys}, softmax(logits));
      }
    }
  }
}

/// @param mean_of  (place, probabilities, their gradients): the mean of the latter
template <class MeanOf>
AttentionTensors backward(const AttentionCase& shape, const AttentionTensors& inputs,
                          const Matrix& output_gradient, MeanOf mean_of) {
  check(shape, inputs);
  const Index width = shape.query_key_width;
  const Index value_width = shape.value_width;
  require_extents("output gradient", output_gradient, inputs.query.rows(),
                  shape.heads * value_width);
  AttentionTensors gradients{Matrix::Zero(inputs.query.rows(), inputs.query.cols()),
                             Matrix::Zero(inputs.key.rows(), inputs.key.cols()),
                             Matrix::Zero(inputs.value.rows(), inputs.value.cols())};
  for_each_query(shape, inputs, [&](const QueryPlace& at, const Probabilities& probabilities) {
    const auto gradient = output_gradient.row(at.row).segment(at.head * value_width, value_width);
    Vector of_probabilities(at.keys);
    for (Index key = 0; key < at.keys; ++key) {
      const Index row = at.first_key + key;
      of_probabilities(key) =
          gradient.dot(inputs.value.row(row).segment(at.head * value_width, value_width));
      gradients.value.row(row).segment(at.head * value_width, value_width) +=
          probabilities.values(key) * gradient;
    }
    const double mean = mean_of(at, probabilities, of_probabilities);
    for (Index key = 0; key < at.keys; ++key) {
      const Index row = at.first_key + key;
      const double of_logit =
          shape.scale * probabilities.values(key) * (of_probabilities(key) - mean);
      gradients.query.row(at.row).segment(at.head * width, width) +=
          of_logit * inputs.key.row(row).segment(at.head * width, width);
      gradients.key.row(row).segment(at.head * width, width) +=
          of_logit * inputs.query.row(at.row).segment(at.head * width, width);
    }
  });
  return gradients;
}

}  // namespace

AttentionResult attention_forward(const AttentionCase& shape, const AttentionTensors& inputs) {
  check(shape, inputs);
  const Index width = shape.value_width;
  AttentionResult result{Matrix::Zero(inputs.query.rows(), shape.heads * width),
                         Matrix::Zero(inputs.query.rows(), shape.heads)};
  for_each_query(shape, inputs, [&](const QueryPlace& at, const Probabilities& probabilities) {
    for (Index key = 0; key < at.keys; ++key) {
      result.output.row(at.row).segment(at.head * width, width) +=
          probabilities.values(key) *
          inputs.value.row(at.first_key + key).segment(at.head * width, width);
    }
    result.log_sum_exp(at.row, at.head) = probabilities.log_sum_exp;
  });
  return result;
}

AttentionTensors attention_backward(const AttentionCase& shape, const AttentionTensors& inputs,
                                    const Matrix& output_gradient) {
  return backward(
      shape, inputs, output_gradient,
      [](const QueryPlace&, const Probabilities& probabilities, const Vector& of_probabilities) {
        return probabilities.values.dot(of_probabilities);
      });
}

AttentionTensors attention_backward(const AttentionCase& shape, const AttentionTensors& inputs,
                                    const Matrix& kept_output, const Matrix& output_gradient) {
  require_extents("kept output", kept_output, inputs.query.rows(), shape.heads * shape.value_width);
  const Index width = shape.value_width;
  return backward(shape, inputs, output_gradient,
                  [&](const QueryPlace& at, const Probabilities&, const Vector&) {
                    return kept_output.row(at.row)
                        .segment(at.head * width, width)
                        .dot(output_gradient.row(at.row).segment(at.head * width, width));
                  });
}

std::vector<Indices> contiguous_cache_rows(const Indices& lengths) {
  std::vector<Indices> sequences;
  Index row = 0;
  for (const Index length : lengths) {
    require(length >= 0, "a cache of {} positions", length);
    Indices& rows = sequences.emplace_back();
    for (Index position = 0; position < length; ++position) rows.push_back(row++);
  }
  return sequences;
}

std::vector<Indices> paged_cache_rows(const Indices& lengths, Index page_rows,
                                      const std::vector<Indices>& page_tables) {
  require(page_rows > 0, "pages of {} rows", page_rows);
  require(lengths.size() == page_tables.size(), "{} sequences, {} page tables", lengths.size(),
          page_tables.size());
  std::vector<Indices> sequences;
  for (std::size_t i = 0; i < lengths.size(); ++i) {
    const Index held = static_cast<Index>(page_tables[i].size()) * page_rows;
    require(lengths[i] >= 0 && lengths[i] <= held,
            "sequence {} has {} positions, its pages hold {}", i, lengths[i], held);
    Indices& rows = sequences.emplace_back();
    for (Index position = 0; position < lengths[i]; ++position) {
      const Index page = page_tables[i][static_cast<std::size_t>(position / page_rows)];
      rows.push_back(page * page_rows + position % page_rows);
    }
  }
  return sequences;
}

AttentionResult absorbed_decode(const AbsorbedDecodeCase& shape, const Matrix& query,
                                const Matrix& cache) {
  require(shape.heads > 0 && shape.latent_width > 0 && shape.rope_width >= 0 &&
              shape.queries_per_sequence > 0,
          "decoding of {} heads, widths {} and {}, {} queries a sequence", shape.heads,
          shape.latent_width, shape.rope_width, shape.queries_per_sequence);
  const Index width = shape.latent_width + shape.rope_width;
  const Index queries = static_cast<Index>(shape.cache_rows.size()) * shape.queries_per_sequence;
  require_extents("query", query, queries, shape.heads * width);
  require_extents("cache", cache, cache.rows(), width);
  AttentionResult result{Matrix::Zero(queries, shape.heads * shape.latent_width),
                         Matrix::Zero(queries, shape.heads)};
  for (Index row = 0; row < queries; ++row) {
    const Indices& positions =
        shape.cache_rows[static_cast<std::size_t>(row / shape.queries_per_sequence)];
    const Index hidden = shape.queries_per_sequence - 1 - row % shape.queries_per_sequence;
    const Index seen = std::max<Index>(0, static_cast<Index>(positions.size()) - hidden);
    for (Index head = 0; head < shape.heads; ++head) {
      Vector logits(seen);
      for (Index i = 0; i < seen; ++i) {
        const Index at = positions[static_cast<std::size_t>(i)];
        require(at >= 0 && at < cache.rows(), "cache row {} of {}", at, cache.rows());
        logits(i) = shape.scale * query.row(row).segment(head * width, width).dot(cache.row(at));
      }
      const Probabilities probabilities = softmax(logits);
      for (Index i = 0; i < seen; ++i) {
        result.output.row(row).segment(head * shape.latent_width, shape.latent_width) +=
            probabilities.values(i) *
            cache.row(positions[static_cast<std::size_t>(i)]).head(shape.latent_width);
      }
      result.log_sum_exp(row, head) = probabilities.log_sum_exp;
    }
  }
  return result;
}

}  // namespace pipecast::kernels::reference
