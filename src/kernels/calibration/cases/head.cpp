/// Embedding and cross-entropy: src/kernels/head/.
#include "base/registry.hpp"
#include "kernels/calibration/cases/operands.hpp"
#include "kernels/calibration/timed_case.hpp"
#include "kernels/head/cross_entropy.hpp"
#include "kernels/head/embedding.hpp"

namespace pipecast::kernels {

namespace {

constexpr std::int64_t kCheckedRows = 8;
constexpr std::int64_t kStep = 8;
constexpr double kTolerance = 0.015;  // BF16's 2^-9 of values up to 5 deviations

struct Extents {
  std::int64_t rows = 0;
  std::int64_t columns = 0;
};

std::optional<Extents> extents_of(const CaseOptions& options) {
  const Extents out{options.at("rows"), options.at("columns")};
  if (out.rows <= 0 || out.columns <= 0 || out.columns % kStep != 0) return std::nullopt;
  return out;
}

/// One of `below` for every row.
std::shared_ptr<Buffer<int>> drawn_indices(std::int64_t rows, std::int64_t below) {
  auto out = result_of<int>(rows);
  Random random(1, "indices");
  for (int& index : *out) {
    index = static_cast<int>(random.below(static_cast<std::uint64_t>(below)));
  }
  return out;
}

double log_sum(const Buffer<Bf16>& logits, std::int64_t row, std::int64_t columns) {
  double sum = 0;
  for (std::int64_t c = 0; c < columns; ++c) sum += std::exp(number(logits[at(row * columns + c)]));
  return std::log(sum);
}

std::optional<TimedCase> loss(const CaseOptions& options, int sms) {
  const std::optional<Extents> found = extents_of(options);
  if (!found) return std::nullopt;
  const Extents e = *found;
  const auto logits = bf16_operand(e.rows * e.columns, "logits");
  const auto targets = drawn_indices(e.rows, e.columns);
  const auto log_sums = result_of<float>(e.rows);
  const auto losses = result_of<float>(e.rows);
  const auto run = [=] {
    cross_entropy_fwd({logits->data(), targets->data(), log_sums->data(), losses->data(),
                       static_cast<int>(e.rows), static_cast<int>(e.columns), sms});
  };
  const auto error = [=] {
    WorstError worst;
    for (const std::int64_t row : sampled(e.rows, kCheckedRows)) {
      const double expected = log_sum(*logits, row, e.columns);
      worst.add(number((*log_sums)[at(row)]), expected);
      worst.add(number((*losses)[at(row)]),
                expected - number((*logits)[at(row * e.columns + (*targets)[at(row)])]));
    }
    return worst.value();
  };
  constexpr double kFp32Sums = 1e-4;
  return TimedCase{.run = run, .error = error, .tolerance = kFp32Sums};
}

std::optional<TimedCase> loss_gradient(const CaseOptions& options, int sms) {
  const std::optional<Extents> found = extents_of(options);
  if (!found) return std::nullopt;
  const Extents e = *found;
  const auto logits = bf16_operand(e.rows * e.columns, "logits");
  const auto targets = drawn_indices(e.rows, e.columns);
  // That of every row: kernels do not depend on the value.
  const auto log_sums = result_of<float>(e.rows);
  const double about = std::log(static_cast<double>(e.columns)) + 0.5;  // of normal logits
  std::fill(log_sums->begin(), log_sums->end(), static_cast<float>(about));
  const auto gradient = result_of<Bf16>(e.rows * e.columns);
  const auto run = [=] {
    cross_entropy_bwd({logits->data(), targets->data(), log_sums->data(), gradient->data(), 1.0F,
                       static_cast<int>(e.rows), static_cast<int>(e.columns), sms});
  };
  const auto error = [=] {
    double worst = 0;
    for (const std::int64_t row : sampled(e.rows, kCheckedRows)) {
      for (std::int64_t c = 0; c < e.columns; ++c) {
        const std::size_t i = at(row * e.columns + c);
        const double share = std::exp(number((*logits)[i]) - number((*log_sums)[at(row)]));
        const double expected = share - (c == (*targets)[at(row)] ? 1 : 0);
        const double off = std::abs(number((*gradient)[i]) - expected) / std::abs(expected);
        worst = worse(worst, off);
      }
    }
    return worst;
  };
  return TimedCase{.run = run, .error = error, .tolerance = kTolerance};
}

/// Rows of the vocabulary that a batch draws from: as many as it has tokens, far more than caches
/// hold; the whole table would be half of a GPU's memory with nothing of it read.
std::int64_t vocabulary_of(const Extents& e) { return e.rows; }

std::optional<TimedCase> lookup(const CaseOptions& options, int sms) {
  const std::optional<Extents> found = extents_of(options);
  if (!found) return std::nullopt;
  const Extents e = *found;
  const auto table = bf16_operand(vocabulary_of(e) * e.columns, "embedding");
  const auto tokens = drawn_indices(e.rows, vocabulary_of(e));
  const auto output = result_of<Bf16>(e.rows * e.columns);
  const auto run = [=] {
    embedding_lookup({table->data(), tokens->data(), output->data(), static_cast<int>(e.rows),
                      static_cast<int>(e.columns), sms});
  };
  const auto error = [=] {
    double wrong = 0;
    for (const std::int64_t element : sampled(e.rows * e.columns)) {
      const std::int64_t token = (*tokens)[at(element / e.columns)];
      const double expected = number((*table)[at(token * e.columns + element % e.columns)]);
      if (number((*output)[at(element)]) != expected) ++wrong;
    }
    return wrong;
  };
  return TimedCase{.run = run, .error = error};
}

/// Adds to the table: a check begins with an empty one.
std::optional<TimedCase> lookup_gradient(const CaseOptions& options, int sms) {
  const std::optional<Extents> found = extents_of(options);
  if (!found) return std::nullopt;
  const Extents e = *found;
  const auto gradient = bf16_operand(e.rows * e.columns, "output gradient");
  const auto tokens = drawn_indices(e.rows, vocabulary_of(e));
  const auto table = result_of<float>(vocabulary_of(e) * e.columns);
  const auto run = [=] {
    embedding_grad({gradient->data(), tokens->data(), table->data(), static_cast<int>(e.rows),
                    static_cast<int>(e.columns), sms});
  };
  const auto error = [=] {
    std::fill(table->begin(), table->end(), 0.0F);
    run();
    synchronise();
    WorstError worst;
    for (const std::int64_t element : sampled(vocabulary_of(e) * e.columns)) {
      const std::int64_t column = element % e.columns;
      double sum = 0;
      for (std::int64_t row = 0; row < e.rows; ++row) {
        if ((*tokens)[at(row)] != element / e.columns) continue;
        sum += number((*gradient)[at(row * e.columns + column)]);
      }
      worst.add(number((*table)[at(element)]), sum);
    }
    return worst.value();
  };
  constexpr double kFp32Sums = 1e-5;
  return TimedCase{.run = run, .error = error, .tolerance = kFp32Sums};
}

const Register<CaseMaker> kEntries[] = {{"cross_entropy_bwd", {loss_gradient}},
                                        {"cross_entropy_fwd", {loss}},
                                        {"embedding_grad", {lookup_gradient}},
                                        {"embedding_lookup", {lookup}}};

}  // namespace

}  // namespace pipecast::kernels
