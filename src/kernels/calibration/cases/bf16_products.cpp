/// BF16 products, weight gradients and the router's: src/kernels/gemm/bf16_gemm.hpp.
#include "base/registry.hpp"
#include "kernels/calibration/cases/operands.hpp"
#include "kernels/calibration/timed_case.hpp"
#include "kernels/gemm/bf16_gemm.hpp"

namespace pipecast::kernels {

namespace {

struct Extents {
  std::int64_t m = 0;
  std::int64_t n = 0;
  std::int64_t k = 0;
};

constexpr std::int64_t kStep = 8;  // elements in 16 bytes, of which a row has a whole number

/// Nothing for what the kernel is not: several groups, tiles that it does not offer.
std::optional<Extents> extents_of(const CaseOptions& options) {
  const Extents out{options.at("m"), options.at("n"), options.at("k")};
  const bool fits = out.m % kStep == 0 && out.n % kStep == 0 && out.k % kStep == 0;
  const bool chosen = options.at("block-m") == 0 && options.at("block-n") == 0;
  if (options.at("groups") != 1 || !fits || !chosen) return std::nullopt;
  return out;
}

/// FP32 sums of `k` products, and BF16's 2^-9 of values up to 5 deviations where that is the
/// result.
constexpr double kTolerance = 0.015;

using Operand = std::shared_ptr<Buffer<Bf16>>;

/// Of sampled elements of D = A B^T, both given by (row, depth).
template <class Result, class A, class B>
double product_error(const Extents& e, const Buffer<Result>& d, const A& a, const B& b) {
  WorstError worst;
  for (const std::int64_t element : sampled(e.m * e.n)) {
    double sum = 0;
    for (std::int64_t x = 0; x < e.k; ++x) sum += a(element / e.n, x) * b(element % e.n, x);
    worst.add(number(d[at(element)]), sum);
  }
  return worst.value();
}

auto row_major(const Operand& operand, std::int64_t columns) {
  return
      [=](std::int64_t row, std::int64_t x) { return number((*operand)[at(row * columns + x)]); };
}
auto column_major(const Operand& operand, std::int64_t columns) {
  return
      [=](std::int64_t row, std::int64_t x) { return number((*operand)[at(x * columns + row)]); };
}

std::optional<TimedCase> product(const CaseOptions& options, int sms) {
  const std::optional<Extents> found = extents_of(options);
  if (!found) return std::nullopt;
  const Extents e = *found;
  const auto a = bf16_operand(e.m * e.k, "A");
  const auto b = bf16_operand(e.n * e.k, "B");
  const auto d = result_of<Bf16>(e.m * e.n);
  const auto run = [=] {
    Bf16Gemm problem{};
    problem.a = a->data();
    problem.b = b->data();
    problem.d = d->data();
    problem.m = static_cast<int>(e.m);
    problem.n = static_cast<int>(e.n);
    problem.k = static_cast<int>(e.k);
    problem.sms = sms;
    gemm_bf16(problem);
  };
  return TimedCase{
      .run = run,
      .error = [=] { return product_error(e, *d, row_major(a, e.k), row_major(b, e.k)); },
      .tolerance = kTolerance};
}

/// The gradient of m x n weights from k tokens: adds to D, so that a check begins with an empty
/// one.
template <class Launch>
std::optional<TimedCase> adding(const CaseOptions& options, const Launch& launch) {
  const std::optional<Extents> found = extents_of(options);
  if (!found) return std::nullopt;
  const Extents e = *found;
  const auto a = bf16_operand(e.k * e.m, "gradients");
  const auto b = bf16_operand(e.k * e.n, "inputs");
  const auto d = result_of<float>(e.m * e.n);
  const auto run = [=] { launch(e, a->data(), b->data(), d->data()); };
  const auto error = [=] {
    std::fill(d->begin(), d->end(), 0.0F);
    run();
    synchronise();
    return product_error(e, *d, column_major(a, e.m), column_major(b, e.n));
  };
  return TimedCase{.run = run, .error = error, .tolerance = kTolerance};
}

std::optional<TimedCase> weight_gradient(const CaseOptions& options, int sms) {
  return adding(options, [sms](const Extents& e, const Bf16* a, const Bf16* b, float* d) {
    gemm_bf16_wgrad(
        {a, b, d, static_cast<int>(e.m), static_cast<int>(e.n), static_cast<int>(e.k), sms});
  });
}

GateGemm gate_of(std::int64_t tokens, std::int64_t experts, std::int64_t hidden, int sms) {
  return {static_cast<int>(tokens), static_cast<int>(experts), static_cast<int>(hidden), sms};
}

/// m tokens, n experts.
std::optional<TimedCase> gate_forward(const CaseOptions& options, int sms) {
  const std::optional<Extents> found = extents_of(options);
  if (!found) return std::nullopt;
  const Extents e = *found;
  const auto x = bf16_operand(e.m * e.k, "tokens");
  const auto w = bf16_operand(e.n * e.k, "router");
  const auto scores = result_of<float>(e.m * e.n);
  const auto run = [=] {
    gate_gemm_fwd(gate_of(e.m, e.n, e.k, sms), x->data(), w->data(), scores->data());
  };
  return TimedCase{
      .run = run,
      .error = [=] { return product_error(e, *scores, row_major(x, e.k), row_major(w, e.k)); },
      .tolerance = kTolerance};
}

/// m tokens, k experts.
std::optional<TimedCase> gate_input_gradient(const CaseOptions& options, int sms) {
  const std::optional<Extents> found = extents_of(options);
  if (!found) return std::nullopt;
  const Extents e = *found;
  const auto scores = bf16_operand(e.m * e.k, "gradient of scores");
  const auto w = bf16_operand(e.k * e.n, "router");
  const auto dx = result_of<Bf16>(e.m * e.n);
  const auto run = [=] {
    gate_gemm_dgrad(gate_of(e.m, e.k, e.n, sms), scores->data(), w->data(), dx->data());
  };
  return TimedCase{
      .run = run,
      .error = [=] { return product_error(e, *dx, row_major(scores, e.k), column_major(w, e.n)); },
      .tolerance = kTolerance};
}

/// m experts, k tokens.
std::optional<TimedCase> gate_weight_gradient(const CaseOptions& options, int sms) {
  return adding(options, [sms](const Extents& e, const Bf16* a, const Bf16* b, float* d) {
    gate_gemm_wgrad(gate_of(e.k, e.m, e.n, sms), a, b, d);
  });
}

const Register<CaseMaker> kEntries[] = {
    {"gate_gemm_dgrad", {gate_input_gradient}},  {"gate_gemm_fwd", {gate_forward}},
    {"gate_gemm_wgrad", {gate_weight_gradient}}, {"gemm_bf16", {product}},
    {"gemm_bf16_wgrad", {weight_gradient}},
};

}  // namespace

}  // namespace pipecast::kernels
