/// RMSNorm and its gradients: src/kernels/norm/rms_norm.hpp.
#include "base/registry.hpp"
#include "kernels/calibration/cases/operands.hpp"
#include "kernels/calibration/timed_case.hpp"
#include "kernels/norm/rms_norm.hpp"

namespace pipecast::kernels {

namespace {

constexpr float kEpsilon = 1e-6F;
constexpr std::int64_t kCheckedRows = 16;
/// BF16's 2^-9 of products of two normal values, up to 20 deviations.
constexpr double kTolerance = 0.04;

struct Extents {
  std::int64_t rows = 0;
  std::int64_t columns = 0;
};

std::optional<Extents> extents_of(const CaseOptions& options) {
  const Extents out{options.at("rows"), options.at("columns")};
  constexpr std::int64_t kStep = 8;
  constexpr std::int64_t kMostColumns = 8192;
  if (out.rows <= 0 || out.columns % kStep != 0 || out.columns > kMostColumns) return std::nullopt;
  return out;
}

/// 1 / sqrt(mean of squares + epsilon) of a row.
double reciprocal_norm(const Buffer<Bf16>& x, std::int64_t row, std::int64_t columns) {
  double squares = 0;
  for (std::int64_t c = 0; c < columns; ++c) {
    const double value = number(x[at(row * columns + c)]);
    squares += value * value;
  }
  return 1 / std::sqrt(squares / static_cast<double>(columns) + number(kEpsilon));
}

std::optional<TimedCase> forward(const CaseOptions& options, int sms) {
  const std::optional<Extents> found = extents_of(options);
  if (!found) return std::nullopt;
  const Extents e = *found;
  const auto x = bf16_operand(e.rows * e.columns, "input");
  const auto w = bf16_operand(e.columns, "weight");
  const auto y = result_of<Bf16>(e.rows * e.columns);
  const auto run = [=] {
    rmsnorm_fwd({x->data(), w->data(), y->data(), kEpsilon, static_cast<int>(e.rows),
                 static_cast<int>(e.columns), sms});
  };
  const auto error = [=] {
    WorstError worst;
    for (const std::int64_t row : sampled(e.rows, kCheckedRows)) {
      const double r = reciprocal_norm(*x, row, e.columns);
      for (std::int64_t c = 0; c < e.columns; ++c) {
        const std::size_t i = at(row * e.columns + c);
        worst.add(number((*y)[i]), number((*w)[at(c)]) * number((*x)[i]) * r);
      }
    }
    return worst.value();
  };
  return TimedCase{.run = run, .error = error, .tolerance = kTolerance};
}

std::optional<TimedCase> backward(const CaseOptions& options, int sms) {
  const std::optional<Extents> found = extents_of(options);
  if (!found) return std::nullopt;
  const Extents e = *found;
  const auto x = bf16_operand(e.rows * e.columns, "input");
  const auto w = bf16_operand(e.columns, "weight");
  const auto dy = bf16_operand(e.rows * e.columns, "output gradient");
  const auto dx = result_of<Bf16>(e.rows * e.columns);
  const int partial_rows =
      rms_norm_partial_rows(static_cast<int>(e.rows), static_cast<int>(e.columns), sms);
  const auto partial = result_of<float>(partial_rows * e.columns);
  const auto run = [=] {
    rmsnorm_bwd({x->data(), w->data(), dy->data(), dx->data(), partial->data(), kEpsilon,
                 static_cast<int>(e.rows), static_cast<int>(e.columns), sms});
  };
  const auto error = [=] {
    WorstError worst;
    for (const std::int64_t row : sampled(e.rows, kCheckedRows)) {
      const double r = reciprocal_norm(*x, row, e.columns);
      const auto normed = [&](std::int64_t c) { return r * number((*x)[at(row * e.columns + c)]); };
      const auto pulled = [&](std::int64_t c) {
        return number((*w)[at(c)]) * number((*dy)[at(row * e.columns + c)]);
      };
      double mean = 0;
      for (std::int64_t c = 0; c < e.columns; ++c) mean += pulled(c) * normed(c);
      mean /= static_cast<double>(e.columns);
      for (std::int64_t c = 0; c < e.columns; ++c) {
        worst.add(number((*dx)[at(row * e.columns + c)]), r * (pulled(c) - normed(c) * mean));
      }
    }
    return worst.value();
  };
  return TimedCase{.run = run, .error = error, .tolerance = kTolerance};
}

std::optional<TimedCase> finalize(const CaseOptions& options, int sms) {
  const std::optional<Extents> found = extents_of(options);
  if (!found) return std::nullopt;
  const Extents e = *found;
  const auto partial = normal_operand<float>(e.rows * e.columns, "partial sums", 1,
                                             [](float drawn) { return drawn; });
  const auto gradient = result_of<float>(e.columns);
  const auto run = [=] {
    rmsnorm_bwd_finalize({partial->data(), gradient->data(), static_cast<int>(e.rows),
                          static_cast<int>(e.columns), sms});
  };
  const auto error = [=] {
    WorstError worst;
    for (const std::int64_t c : sampled(e.columns)) {
      double sum = 0;
      for (std::int64_t row = 0; row < e.rows; ++row) {
        sum += number((*partial)[at(row * e.columns + c)]);
      }
      worst.add(number((*gradient)[at(c)]), sum);
    }
    return worst.value();
  };
  constexpr double kFp32Sums = 1e-5;
  return TimedCase{.run = run, .error = error, .tolerance = kFp32Sums};
}

const Register<CaseMaker> kEntries[] = {
    {"rmsnorm_bwd", {backward}}, {"rmsnorm_bwd_finalize", {finalize}}, {"rmsnorm_fwd", {forward}}};

}  // namespace

}  // namespace pipecast::kernels
