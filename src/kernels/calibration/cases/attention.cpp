/// Attention of training: src/kernels/attention/.
#include <vector>

#include "base/registry.hpp"
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

const Register<CaseMaker> kEntry{"attention_fwd", {forward}};

}  // namespace

}  // namespace pipecast::kernels
