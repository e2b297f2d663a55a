#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>
#include <limits>
#include <random>
#include <vector>

#include "kernels/attention/attention_decode.hpp"
#include "kernels/reference/attention.hpp"
#include "run.hpp"

namespace pipecast::kernels {
namespace {

using namespace testing;
using reference::Index;
using reference::Matrix;

const double kScale = 1 / std::sqrt(192.0);

/// Sequences over pages that lie in the cache in a random order, with NaN wherever no position is.
struct DecodeInputs {
  DecodeInputs(const reference::Indices& all_lengths, int head_count)
      : lengths(all_lengths), heads(head_count) {
    Index pages = 0;
    for (const Index length : lengths) {
      const Index own = (length + kPageRows - 1) / kPageRows;
      width = std::max(width, own);
      pages += own;
    }
    std::vector<int> order(static_cast<std::size_t>(pages));
    for (std::size_t i = 0; i < order.size(); ++i) order[i] = static_cast<int>(i);
    std::shuffle(order.begin(), order.end(), std::mt19937_64(5));
    page_table =
        Buffer<int>(std::vector<int>(lengths.size() * static_cast<std::size_t>(width), -1));
    device_lengths = Buffer<int>(lengths.size());
    std::size_t next = 0;
    for (std::size_t i = 0; i < lengths.size(); ++i) {
      device_lengths[i] = static_cast<int>(lengths[i]);
      reference::Indices& own = tables.emplace_back();
      for (Index page = 0; page * kPageRows < lengths[i]; ++page) {
        page_table[i * static_cast<std::size_t>(width) + static_cast<std::size_t>(page)] =
            order[next];
        own.push_back(order[next++]);
      }
    }
    const std::size_t rows = lengths.size() * static_cast<std::size_t>(heads);
    query = as_bf16(normal_values(rows * kCacheWidth, 1));
    cache = Buffer<Bf16>(order.size() * kPageRows * kCacheWidth);  // NaN
    const auto values = normal_values(cache.size(), 2);
    for (const reference::Indices& sequence : cache_rows()) {
      for (const Index row : sequence) {
        const std::size_t begin = static_cast<std::size_t>(row) * kCacheWidth;
        for (std::size_t i = begin; i < begin + kCacheWidth; ++i) cache[i] = to_bf16(values[i]);
      }
    }
  }
  std::vector<reference::Indices> cache_rows() const {
    return reference::paged_cache_rows(lengths, kPageRows, tables);
  }

  reference::Indices lengths;
  int heads;
  Index width = 0;
  std::vector<reference::Indices> tables;
  Buffer<int> page_table;
  Buffer<int> device_lengths;
  Buffer<Bf16> query;
  Buffer<Bf16> cache;
};

struct Outputs {
  Buffer<Bf16> output;
  Buffer<float> log_sum_exp;
};

Outputs run(const DecodeInputs& inputs, int sms = 0) {
  const auto sequences = static_cast<int>(inputs.lengths.size());
  const std::size_t rows = inputs.lengths.size() * static_cast<std::size_t>(inputs.heads);
  Outputs out{Buffer<Bf16>(rows * kLatentWidth), Buffer<float>(rows)};
  const auto sizes = attention_decode_workspace(sequences, inputs.heads, sms);
  Buffer<int> first_pages(sizes.first_pages);
  Buffer<float> part_outputs(sizes.part_outputs);
  Buffer<float> part_log_sum_exps(sizes.part_log_sum_exps);
  AttentionDecode problem{};
  problem.query = inputs.query.data();
  problem.cache = inputs.cache.data();
  problem.page_table = inputs.page_table.data();
  problem.lengths = inputs.device_lengths.data();
  problem.output = out.output.data();
  problem.log_sum_exp = out.log_sum_exp.data();
  problem.first_pages = first_pages.data();
  problem.part_outputs = part_outputs.data();
  problem.part_log_sum_exps = part_log_sum_exps.data();
  problem.sequences = sequences;
  problem.heads = inputs.heads;
  problem.pages = static_cast<int>(inputs.cache.size() / (kPageRows * kCacheWidth));
  problem.table_width = static_cast<int>(inputs.width);
  problem.scale = static_cast<float>(kScale);
  problem.sms = sms;
  attention_decode(problem);
  synchronise();
  return out;
}

struct Expected {
  reference::AttentionResult result;
  /// Sum of weights times absolute values: weights are rounded to BF16, and so is the result, each
  /// time by at most 2^-8 of itself.
  Matrix magnitude;
};

Expected expected_of(const DecodeInputs& inputs) {
  const auto rows = inputs.cache_rows();
  reference::AbsorbedDecodeCase shape{};
  shape.heads = inputs.heads;
  shape.latent_width = kLatentWidth;
  shape.rope_width = kCacheWidth - kLatentWidth;
  shape.scale = kScale;
  shape.cache_rows = rows;
  const auto as_matrix = [](const Buffer<Bf16>& values, Index width) {
    Matrix out(static_cast<Index>(values.size()) / width, width);
    for (Index i = 0; i < out.size(); ++i) {
      out.data()[i] = static_cast<double>(to_float(values[static_cast<std::size_t>(i)]));
    }
    return out;
  };
  const Matrix query = as_matrix(inputs.query, static_cast<Index>(inputs.heads) * kCacheWidth);
  const Matrix cache = as_matrix(inputs.cache, kCacheWidth);
  Expected out{absorbed_decode(shape, query, cache),
               Matrix::Zero(query.rows(), inputs.heads * kLatentWidth)};
  for (Index sequence = 0; sequence < query.rows(); ++sequence) {
    for (Index head = 0; head < inputs.heads; ++head) {
      for (const Index row : rows[static_cast<std::size_t>(sequence)]) {
        const double logit =
            kScale *
            query.row(sequence).segment(head * kCacheWidth, kCacheWidth).dot(cache.row(row));
        out.magnitude.row(sequence).segment(head * kLatentWidth, kLatentWidth) +=
            std::exp(logit - out.result.log_sum_exp(sequence, head)) *
            cache.row(row).head(kLatentWidth).cwiseAbs();
      }
    }
  }
  return out;
}

// Two roundings to BF16 (7 bits of fraction), and FP32 far below them.
constexpr double kTolerance = 2 * 0x1p-8 + 0x1p-13;
// Logits of a deviation of 1.7 from 36 sums rounded to FP32, and the row's sum.
constexpr double kLogTolerance = 0x1p-15;

void require_expected(const Outputs& actual, const Expected& expected) {
  for (Index i = 0; i < expected.result.output.size(); ++i) {
    const double value = static_cast<double>(to_float(actual.output[static_cast<std::size_t>(i)]));
    const double error = std::abs(value - expected.result.output.data()[i]);
    // Written so that NaN fails.
    if (!(error <= kTolerance * expected.magnitude.data()[i])) {
      CAPTURE(i, value, expected.result.output.data()[i], expected.magnitude.data()[i]);
      FAIL("an output is too far from the reference");
    }
  }
  for (Index i = 0; i < expected.result.log_sum_exp.size(); ++i) {
    const double right = expected.result.log_sum_exp.data()[i];
    const double value = static_cast<double>(actual.log_sum_exp[static_cast<std::size_t>(i)]);
    CAPTURE(i, value, right);
    REQUIRE((value == right || std::abs(value - right) <= kLogTolerance * (1 + std::abs(right))));
  }
}

std::vector<std::uint16_t> bits_of(const Buffer<Bf16>& values) {
  std::vector<std::uint16_t> bits;
  for (const Bf16 value : values) bits.push_back(value.bits);
  return bits;
}

}  // namespace

TEST_CASE("decoding is the softmax over the paged cache, however its pages are dealt out",
          "[attention_decode]") {
  struct Case {
    reference::Indices lengths;
    int heads;
  };
  const auto example = GENERATE(values<Case>({
      {{1}, 1},
      {{65}, 2},              // just over a page: two parts of one
      {{64, 0, 130, 1}, 3},   // an empty sequence
      {{0, 10, 20, 300}, 1},  // one that is cut and begins within a part
      {{70}, 65},             // more heads than a tile
      {{10, 20, 30, 40, 0, 64}, 1},
  }));
  const DecodeInputs inputs(example.lengths, example.heads);
  CAPTURE(example.lengths.front(), example.heads);
  const Expected expected = expected_of(inputs);
  std::vector<std::uint16_t> first;
  in_every_order([&] {
    const Outputs actual = run(inputs);
    require_expected(actual, expected);
    const auto bits = bits_of(actual.output);
    if (first.empty()) first = bits;
    REQUIRE(bits == first);
  });
}

TEST_CASE("decoding on one SM agrees with the reference as well", "[attention_decode]") {
  const DecodeInputs inputs({100, 3, 129}, 2);
  const Expected expected = expected_of(inputs);
  require_expected(run(inputs, 1), expected);
  require_expected(run(inputs, 7), expected);  // parts without pages
}

TEST_CASE("a cached row that is not a number spoils its sequence and no other",
          "[attention_decode]") {
  const float poison =
      GENERATE(std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity());
  DecodeInputs inputs({130, 66}, 1);
  const Expected expected = expected_of(inputs);
  const auto row = static_cast<std::size_t>(inputs.cache_rows()[0][100]);
  for (std::size_t i = 0; i < kCacheWidth; ++i)
    inputs.cache[row * kCacheWidth + i] = to_bf16(poison);
  const Outputs actual = run(inputs);
  REQUIRE(std::isnan(actual.log_sum_exp[0]));
  for (std::size_t i = 0; i < kLatentWidth; ++i) {
    REQUIRE(std::isnan(to_float(actual.output[i])));
    const double error = std::abs(static_cast<double>(to_float(actual.output[kLatentWidth + i])) -
                                  expected.result.output.data()[kLatentWidth + i]);
    REQUIRE(error <= kTolerance * expected.magnitude.data()[kLatentWidth + i]);
  }
}

TEST_CASE("decoding of no sequences does nothing, and refuses a scale that is not positive",
          "[attention_decode]") {
  REQUIRE(run(DecodeInputs({}, 4)).output.size() == 0);
  AttentionDecode wrong{};
  wrong.heads = 1;
  REQUIRE_THROWS_WITH(attention_decode(wrong),
                      "attention_decode: heads and the scale are positive");
}

}  // namespace pipecast::kernels
