/// Attention of training: src/kernels/attention/.
#include <vector>

#include "base/registry.hpp"
#include "kernels/attention/attention_bwd.hpp"
#include "kernels/attention/attention_fwd.hpp"
#include "kernels/calibration/cases/operands.hpp"
#include "kernels/calibration/timed_case.hpp"

namespace pipecast::kernels {

namespace {

/// As many sequences of one length as there are in a batch.
struct Batch {
  std::int64_t heads = 0;
  std::int64_t sequences = 0;
  std::int64_t length = 0;
  bool causal = false;
  [[nodiscard]] std::int64_t tokens() const { return sequences * length; }
};

/// Nothing for what our kernels are not: other widths, keys of a cache, heads that share keys.
std::optional<Batch> batch_of(const CaseOptions& options) {
  const Batch out{.heads = options.at("heads"),
                  .sequences = options.at("batch"),
                  .length = options.at("sequence"),
                  .causal = options.at("causal") == 1};
  const bool ours = options.at("qk_dim") == kQueryKeyWidth && options.at("v_dim") == kValueWidth &&
                    options.at("kv_heads") == 0 && options.at("step") == 0;
  if (!ours || out.heads <= 0 || out.tokens() <= 0) return std::nullopt;
  return out;
}

std::shared_ptr<Buffer<int>> first_rows(const Batch& batch) {
  const auto out = result_of<int>(batch.sequences + 1);
  for (std::int64_t i = 0; i <= batch.sequences; ++i) {
    (*out)[at(i)] = static_cast<int>(i * batch.length);
  }
  return out;
}

/// Logits of entropy: neither one key nor all alike.
const float kScale = 1.0F / std::sqrt(static_cast<float>(kQueryKeyWidth));

AttentionSequences sequences_of(const Batch& batch, const int* first) {
  const auto tokens = static_cast<int>(batch.tokens());
  const auto length = static_cast<int>(batch.length);
  return {.first_query = first,
          .first_key = first,
          .sequences = static_cast<int>(batch.sequences),
          .heads = static_cast<int>(batch.heads),
          .queries = tokens,
          .keys = tokens,
          .longest_queries = length,
          .longest_keys = length,
          .scale = kScale,
          .causal = batch.causal};
}

std::optional<TimedCase> forward(const CaseOptions& options, int sms) {
  const std::optional<Batch> found = batch_of(options);
  if (!found || options.at("kv_dtype") != 0) return std::nullopt;
  const Batch batch = *found;
  const std::int64_t rows = batch.tokens() * batch.heads;
  const auto query = bf16_operand(rows * kQueryKeyWidth, "queries");
  const auto key = bf16_operand(rows * kQueryKeyWidth, "keys");
  const auto value = bf16_operand(rows * kValueWidth, "values");
  const auto output = result_of<Bf16>(rows * kValueWidth);
  const auto log_sum = result_of<float>(rows);
  const auto first = first_rows(batch);
  const auto run = [=] {
    attention_fwd({query->data(), key->data(), value->data(), output->data(), log_sum->data(),
                   sequences_of(batch, first->data()), sms});
  };
  const auto error = [=] {
    WorstError worst;
    constexpr std::int64_t kChecked = 64;  // each looks at every key of its sequence
    for (const std::int64_t element : sampled(rows * kValueWidth, kChecked)) {
      const std::int64_t token = element / kValueWidth / batch.heads;
      const std::int64_t head = element / kValueWidth % batch.heads;
      const std::int64_t start = token / batch.length * batch.length;
      const std::int64_t end = batch.causal ? token + 1 : start + batch.length;
      double weights = 0;
      double sum = 0;
      for (std::int64_t other = start; other < end; ++other) {
        double logit = 0;
        for (std::int64_t x = 0; x < kQueryKeyWidth; ++x) {
          logit += number((*query)[at((token * batch.heads + head) * kQueryKeyWidth + x)]) *
                   number((*key)[at((other * batch.heads + head) * kQueryKeyWidth + x)]);
        }
        const double weight = std::exp(logit * number(kScale));
        weights += weight;
        sum += weight *
               number((
                   *value)[at((other * batch.heads + head) * kValueWidth + element % kValueWidth)]);
      }
      worst.add(number((*output)[at(element)]), sum / weights);
    }
    return worst.value();
  };
  // Weights and results in BF16: 2^-9 each, of values up to 5 deviations.
  constexpr double kTolerance = 0.03;
  return TimedCase{.run = run, .error = error, .tolerance = kTolerance};
}

/// What the backward pass reads and writes, rows being tokens x heads.
struct Backward {
  Batch batch{};
  std::shared_ptr<Buffer<Bf16>> query{};
  std::shared_ptr<Buffer<Bf16>> key{};
  std::shared_ptr<Buffer<Bf16>> value{};
  std::shared_ptr<Buffer<Bf16>> output{};
  std::shared_ptr<Buffer<float>> log_sum{};
  std::shared_ptr<Buffer<Bf16>> output_gradient{};
  std::shared_ptr<Buffer<Bf16>> query_gradient{};
  std::shared_ptr<Buffer<Bf16>> key_gradient{};
  std::shared_ptr<Buffer<Bf16>> value_gradient{};
  std::shared_ptr<Buffer<float>> statistics{};
  std::shared_ptr<Buffer<float>> sums{};
  std::shared_ptr<Buffer<std::uint32_t>> turns{};
  std::shared_ptr<Buffer<int>> first{};

  [[nodiscard]] AttentionBwd problem(int sms) const {
    return {.query = query->data(),
            .key = key->data(),
            .value = value->data(),
            .output = output->data(),
            .log_sum_exp = log_sum->data(),
            .output_gradient = output_gradient->data(),
            .query_gradient = query_gradient->data(),
            .key_gradient = key_gradient->data(),
            .value_gradient = value_gradient->data(),
            .row_statistics = statistics->data(),
            .query_sums = sums->data(),
            .query_turns = turns->data(),
            .sequences = sequences_of(batch, first->data()),
            .sms = sms};
  }

  /// Sum over a width of the products of two rows.
  static double dot(const Buffer<Bf16>& a, std::int64_t a_row, const Buffer<Bf16>& b,
                    std::int64_t b_row, std::int64_t width) {
    double sum = 0;
    for (std::int64_t x = 0; x < width; ++x) {
      sum += number(a[at(a_row * width + x)]) * number(b[at(b_row * width + x)]);
    }
    return sum;
  }

  /// Gradients of sampled elements of one key and value, from all queries that see it.
  void check(std::int64_t token, std::int64_t head, WorstError& keys, WorstError& values) const {
    const std::int64_t row = token * batch.heads + head;
    const std::int64_t start = token / batch.length * batch.length;
    constexpr std::int64_t kElement = 77;  // any
    double key_sum = 0;
    double value_sum = 0;
    for (std::int64_t q = batch.causal ? token : start; q < start + batch.length; ++q) {
      const std::int64_t q_row = q * batch.heads + head;
      const double logit = number(kScale) * dot(*query, q_row, *key, row, kQueryKeyWidth);
      const double weight = std::exp(logit - number((*log_sum)[at(head * batch.tokens() + q)]));
      const double pull = dot(*output_gradient, q_row, *value, row, kValueWidth) -
                          dot(*output_gradient, q_row, *output, q_row, kValueWidth);
      value_sum += weight * number((*output_gradient)[at(q_row * kValueWidth + kElement)]);
      key_sum +=
          number(kScale) * weight * pull * number((*query)[at(q_row * kQueryKeyWidth + kElement)]);
    }
    keys.add(number((*key_gradient)[at(row * kQueryKeyWidth + kElement)]), key_sum);
    values.add(number((*value_gradient)[at(row * kValueWidth + kElement)]), value_sum);
  }
};

std::optional<TimedCase> backward(const CaseOptions& options, int sms) {
  const std::optional<Batch> found = batch_of(options);
  if (!found) return std::nullopt;
  const Batch batch = *found;
  const std::int64_t rows = batch.tokens() * batch.heads;
  Backward made{.batch = batch};
  made.query = bf16_operand(rows * kQueryKeyWidth, "queries");
  made.key = bf16_operand(rows * kQueryKeyWidth, "keys");
  made.value = bf16_operand(rows * kValueWidth, "values");
  made.output = result_of<Bf16>(rows * kValueWidth);
  made.log_sum = result_of<float>(rows);
  made.output_gradient = bf16_operand(rows * kValueWidth, "output gradient");
  made.query_gradient = result_of<Bf16>(rows * kQueryKeyWidth);
  made.key_gradient = result_of<Bf16>(rows * kQueryKeyWidth);
  made.value_gradient = result_of<Bf16>(rows * kValueWidth);
  made.first = first_rows(batch);
  const AttentionSequences sequences = sequences_of(batch, made.first->data());
  const AttentionBwdWorkspace workspace = attention_bwd_workspace(sequences);
  made.statistics = std::make_shared<Buffer<float>>(workspace.row_statistics);
  made.sums = std::make_shared<Buffer<float>>(workspace.query_sums);
  made.turns = std::make_shared<Buffer<std::uint32_t>>(workspace.query_turns);
  attention_fwd({made.query->data(), made.key->data(), made.value->data(), made.output->data(),
                 made.log_sum->data(), sequences, 0});
  synchronise();
  const auto error = [made] {
    WorstError keys;
    WorstError values;
    constexpr std::int64_t kChecked = 24;  // each looks at every query of its sequence
    for (const std::int64_t row : sampled(made.batch.tokens() * made.batch.heads, kChecked)) {
      made.check(row / made.batch.heads, row % made.batch.heads, keys, values);
    }
    return worse(keys.value(), values.value());
  };
  // Weights, their gradients and results in BF16, 2^-9 each, of values up to 10 deviations.
  constexpr double kTolerance = 0.06;
  return TimedCase{.run = [made, sms] { attention_bwd(made.problem(sms)); },
                   .error = error,
                   .tolerance = kTolerance,
                   .prepare = [made, sms] { attention_bwd_preprocess(made.problem(sms)); }};
}

const Register<CaseMaker> kEntries[] = {{"attention_bwd", {backward}},
                                        {"attention_fwd", {forward}}};

}  // namespace

}  // namespace pipecast::kernels
