/// FP8 products: src/kernels/gemm/fp8_gemm.hpp.
#include "kernels/gemm/fp8_gemm.hpp"

#include "base/registry.hpp"
#include "kernels/calibration/cases/operands.hpp"
#include "kernels/calibration/timed_case.hpp"

namespace pipecast::kernels {

namespace {

constexpr std::int64_t kBlock = 128;  // of K, and columns of B, that share a scale

std::int64_t blocks(std::int64_t extent) { return (extent + kBlock - 1) / kBlock; }

double value(float number) { return static_cast<double>(number); }

std::optional<TimedCase> fp8_gemm_case(const CaseOptions& options, int sms) {
  const std::int64_t m = options.at("m");
  const std::int64_t n = options.at("n");
  const std::int64_t k = options.at("k");
  constexpr std::int64_t kColumnStep = 8;
  const bool plain = options.at("promotion") == 1 && options.at("cast") == 0 &&
                     options.at("full-accumulation") == 0 && options.at("native-scaling") == 0;
  if (!plain || options.at("groups") != 1 || k % kBlock != 0 || n % kColumnStep != 0) {
    return std::nullopt;
  }
  constexpr double kDeviation = 100;  // of codes, which reach 448
  const auto a = normal_operand<E4m3>(m * k, "A", kDeviation, to_e4m3);
  const auto b = normal_operand<E4m3>(n * k, "B", kDeviation, to_e4m3);
  const auto scale = [](float drawn) { return 0.01F * (1.0F + std::abs(drawn)); };
  const auto a_scale = normal_operand<float>(blocks(k) * m, "scales of A", 1, scale);
  const auto b_scale = normal_operand<float>(blocks(n) * blocks(k), "scales of B", 1, scale);
  const auto d = std::make_shared<Buffer<Bf16>>(static_cast<std::size_t>(m * n));
  const auto run = [=] {
    fp8_gemm({a->data(), b->data(), a_scale->data(), b_scale->data(), d->data(),
              static_cast<int>(m), static_cast<int>(n), static_cast<int>(k), sms});
  };
  const auto error = [=] {
    const auto at = [](std::int64_t index) { return static_cast<std::size_t>(index); };
    WorstError worst;
    for (const std::int64_t element : sampled(m * n)) {
      const std::int64_t row = element / n;
      const std::int64_t column = element % n;
      double sum = 0;
      for (std::int64_t x = 0; x < k; ++x) {
        sum += value(to_float((*a)[at(row * k + x)])) * value(to_float((*b)[at(column * k + x)])) *
               value((*a_scale)[at(x / kBlock * m + row)]) *
               value((*b_scale)[at(column / kBlock * blocks(k) + x / kBlock)]);
      }
      worst.add(value(to_float((*d)[at(element)])), sum);
    }
    return worst.value();
  };
  // Accumulation with 14 bits over 128 products, and BF16's 2^-9 of values up to 5 deviations.
  constexpr double kTolerance = 0.02;
  return TimedCase{.run = run, .error = error, .tolerance = kTolerance};
}

const Register<CaseMaker> kEntry{"gemm_fp8", {fp8_gemm_case}};

}  // namespace

}  // namespace pipecast::kernels
